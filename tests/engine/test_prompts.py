"""Several turns: the ids of what was sampled stay, and only a template that rewrites history makes new ones."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.test_tool_formats import TOOLS, WEATHER, wire
from tests.models_made_here import FAMILIES, Family, make_tokenizer

from agentlightning.data.call import Call, Message
from agentlightning.engine.torch.prompts import Prompt, Prompts
from agentlightning.engine.torch.templates import ChatTemplate
from agentlightning.engine.torch.tool_formats import detect
from agentlightning.engine.torch.wishes import wishes_of

QUESTION: Message = {"role": "user", "content": "What is the weather?"}


class Conversation:
    """An agent's side of a rollout whose model says what the test wants."""

    def __init__(self, family: Family, *, tools: list[dict[str, Any]] = TOOLS, template: str | None = None) -> None:
        self.tokenizer = make_tokenizer(family, template=template)
        self.format = detect(self.tokenizer.chat_template)
        self.prompts = Prompts(self.tokenizer, ChatTemplate(self.tokenizer, self.format), self.format)
        self.tools = tools

    def ask(self, *messages: Message) -> Prompt:
        self.call = Call(agent="a", model="m", messages=list(messages), tools=self.tools)
        self.prompt = self.prompts.make(self.call, wishes_of(self.call), "r")
        return self.prompt

    def sample(self, text: str, *, is_ended: bool = True) -> Message:
        """The message that the agent is given; spelled letter by letter, as no tokenizer would."""
        ids = [id for letter in text for id in self.tokenizer.encode(letter, add_special_tokens=False)]
        self.ids = ids + ([self.tokenizer.eos_token_id] if is_ended else [])
        said = self.format.read(text, self.call.tools)
        reply = said.message([f"call{place:05d}" for place in range(len(said.tool_calls))])
        self.prompts.remember(self.prompt, "r", completion_ids=self.ids, text=text, said=said, reply=reply)
        return reply


def result(content: str = "sunny") -> Message:
    return {"role": "tool", "tool_call_id": "call00000", "content": content}


CALLS: dict[str, str] = {
    "qwen": '<tool_call>\n{"arguments":{"city":"São \\"Paulo\\"","days":3},"name":"get_weather"}\n</tool_call>',
    "llama": '{"name":"get_weather","parameters":{"days":3,"city":"São \\"Paulo\\""}}',
    "plain": '{"tool":"get_weather","arguments":{"city":"São \\"Paulo\\"","days":3}}',
}


@pytest.mark.parametrize("family", ["qwen", "llama", "plain"])
def test_a_tool_loop_keeps_the_sampled_ids_however_the_template_would_space_them(family: Family) -> None:
    talk = Conversation(family)
    first = talk.ask(QUESTION)
    reply = talk.sample(CALLS[family])
    assert reply["tool_calls"]
    second = talk.ask(QUESTION, reply, result())
    assert second.ids[: len(first.ids) + len(talk.ids)] == first.ids + talk.ids
    assert second.num_reused == len(first.ids) + len(talk.ids)
    written = talk.tokenizer.decode(second.ids)
    whole = ChatTemplate(talk.tokenizer, talk.format).render([QUESTION, reply, result()], TOOLS, opens=True)
    assert written.split("sunny")[1] == whole.split("sunny")[1]
    assert (talk.prompts.num_continued, talk.prompts.num_rewritten) == (1, 0)


def test_mistral_s_tool_loop_keeps_them_too() -> None:
    """The template writes ids into history that were never sampled; the calls are the same, so the ids stay."""
    talk = Conversation("mistral")
    first = talk.ask(QUESTION)
    mark = talk.tokenizer.encode("[TOOL_CALLS]", add_special_tokens=False)
    reply = talk.sample('[TOOL_CALLS] [{"name": "search", "arguments": {}}]')
    second = talk.ask(QUESTION, reply, result())
    assert len(mark) == 1
    assert second.ids[: second.num_reused] == first.ids + talk.ids


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("is_ended", [True, False])
def test_a_conversation_without_tools_goes_on(family: Family, is_ended: bool) -> None:
    talk = Conversation(family, tools=[])
    first = talk.ask(QUESTION)
    reply = talk.sample("It is fine.", is_ended=is_ended)
    second = talk.ask(QUESTION, reply, {"role": "user", "content": "And tomorrow?"})
    assert second.num_reused == len(first.ids) + len(talk.ids)
    ends = [id for id in second.ids if id == talk.tokenizer.eos_token_id]
    fresh = talk.tokenizer.encode(second.text, add_special_tokens=False)
    assert len(ends) == fresh.count(talk.tokenizer.eos_token_id), "the end of the answer stands there once"
    assert talk.tokenizer.decode(second.ids).replace(" It", "It") == second.text.replace(" It", "It")


def test_a_template_that_drops_earlier_reasoning_opens_a_new_segment() -> None:
    talk = Conversation("qwen", tools=[])
    talk.ask(QUESTION)
    reply = talk.sample("<think>\nhm\n</think>\n\nIt is fine.")
    second = talk.ask(QUESTION, reply, {"role": "user", "content": "And tomorrow?"})
    assert (second.is_rewritten, second.num_reused) == (True, 0)
    assert "hm" not in talk.tokenizer.decode(second.ids)
    assert talk.prompts.num_rewritten == 1


def test_reasoning_that_an_sdk_dropped_is_put_back_within_a_tool_loop() -> None:
    talk = Conversation("qwen")
    talk.ask(QUESTION)
    reply = talk.sample("<think>\nI must look.\n</think>\n\n" + CALLS["qwen"])
    assert reply.pop("reasoning_content") == "I must look."
    second = talk.ask(QUESTION, reply, result())
    assert second.num_reused
    assert "I must look." in talk.tokenizer.decode(second.ids)


def test_a_template_that_moves_the_tools_opens_a_new_segment() -> None:
    talk = Conversation("mistral")
    talk.ask(QUESTION)
    reply = talk.sample(" It is fine.")
    second = talk.ask(QUESTION, reply, {"role": "user", "content": "And tomorrow?"})
    assert second.is_rewritten
    assert talk.prompts.num_rewritten == 1


def test_an_answer_the_agent_changed_is_another_conversation() -> None:
    talk = Conversation("qwen")
    talk.ask(QUESTION)
    talk.sample("It is fine.")
    second = talk.ask(QUESTION, {"role": "assistant", "content": "It is bad."}, QUESTION)
    assert (second.num_reused, second.is_rewritten) == (0, False)


def test_other_tools_make_another_conversation() -> None:
    talk = Conversation("qwen")
    talk.ask(QUESTION)
    reply = talk.sample("It is fine.")
    talk.tools = TOOLS[:1]
    assert talk.ask(QUESTION, reply, QUESTION).num_reused == 0


def test_a_forgotten_rollout_starts_anew() -> None:
    talk = Conversation("qwen", tools=[])
    talk.ask(QUESTION)
    reply = talk.sample("It is fine.")
    talk.prompts.forget("r")
    assert talk.ask(QUESTION, reply, QUESTION).num_reused == 0


def test_interleaved_conversations_of_one_rollout_go_on_each() -> None:
    talk = Conversation("qwen", tools=[])
    other: Message = {"role": "user", "content": "Plan a trip."}
    talk.ask(QUESTION)
    first = talk.sample("It is fine.")
    talk.ask(other)
    second = talk.sample("To Paris.")
    assert talk.ask(QUESTION, first, QUESTION).num_reused
    assert talk.ask(other, second, QUESTION).num_reused


def test_a_changed_call_made_by_hand_is_no_match() -> None:
    talk = Conversation("qwen")
    talk.ask(QUESTION)
    talk.sample(CALLS["qwen"])
    changed = wire(WEATHER)
    changed["tool_calls"][0]["function"]["arguments"] = '{"city": "Oslo"}'
    assert talk.ask(QUESTION, changed, result()).num_reused == 0
