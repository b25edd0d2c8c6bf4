"""Written conversations as samples: assistants' tokens are learned, with their end marks, and nothing else is."""

from __future__ import annotations

import pytest
from tests.engine.test_tool_formats import TOOLS, WEATHER, template_of, wire
from tests.models_made_here import FAMILIES, Family, make_tokenizer

from agentlightning.data.call import Message
from agentlightning.data.sample import Sample
from agentlightning.engine.torch.conversations import encode
from agentlightning.errors import DataError

TALK: list[Message] = [
    {"role": "user", "content": "What is the weather?"},
    {"role": "assistant", "content": "It is fine."},
    {"role": "user", "content": "And tomorrow?"},
    {"role": "assistant", "content": "It will rain."},
]


def learned_texts(family: Family, sample: Sample) -> list[str]:
    tokenizer = make_tokenizer(family)
    return [tokenizer.decode(sample.completion_ids[turn.start : turn.end]) for turn in sample.turns]


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_learned_and_nothing_else(family: Family) -> None:
    tokenizer = make_tokenizer(family)
    sample = encode(template_of(family), tokenizer, TALK, agent="a")
    texts = [text.strip() for text in learned_texts(family, sample)]
    assert texts == [f"It is fine.{tokenizer.eos_token}", f"It will rain.{tokenizer.eos_token}"]
    assert sum(sample.mask) == sum(turn.end - turn.start for turn in sample.turns)
    whole = template_of(family).render(TALK, opens=False)
    assert whole.startswith(tokenizer.decode(sample.prompt_ids + sample.completion_ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_tool_calls_are_learned_and_results_are_not(family: Family) -> None:
    result: Message = {"role": "tool", "tool_call_id": "call00000", "content": "sunny"}
    talk = [TALK[0], wire(WEATHER), result, TALK[1]]
    sample = encode(template_of(family), make_tokenizer(family), talk, TOOLS)
    first, second = learned_texts(family, sample)
    assert "get_weather" in first
    assert "fine" in second
    assert "sunny" not in first + second


def test_only_the_chosen_answers_are_learned() -> None:
    sample = encode(template_of("qwen"), make_tokenizer("qwen"), TALK, learned={3})
    assert learned_texts("qwen", sample) == ["It will rain.<|im_end|>"]
    assert "It is fine." in make_tokenizer("qwen").decode(sample.prompt_ids)


def test_reasoning_that_the_template_drops_is_not_learned() -> None:
    talk = [TALK[0], TALK[1] | {"reasoning_content": "early"}, TALK[2], TALK[3] | {"reasoning_content": "late"}]
    sample = encode(template_of("qwen"), make_tokenizer("qwen"), talk)
    assert learned_texts("qwen", sample) == [
        "It is fine.<|im_end|>",
        "<think>\nlate\n</think>\n\nIt will rain.<|im_end|>",
    ]


def test_a_conversation_without_answers_is_refused() -> None:
    with pytest.raises(DataError, match="no assistant message"):
        encode(template_of("qwen"), make_tokenizer("qwen"), TALK[:1])
