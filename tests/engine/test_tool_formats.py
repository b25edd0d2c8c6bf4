"""Tool calls go through a family's template and come back the same; what is broken stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.models_made_here import FAMILIES, TEMPLATES, Family, make_tokenizer

from agentlightning.data.call import Message
from agentlightning.engine.torch.templates import ChatTemplate
from agentlightning.engine.torch.tool_formats import ToolCall, detect, named
from agentlightning.errors import ConfigError, ModelError


def tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": parameters}}


TOOLS = [tool("get_weather"), tool("search")]
WEATHER = ToolCall("get_weather", {"city": 'São "Paulo"', "days": 3})
SEARCH = ToolCall("search", {"city": "Paris\n"})


def template_of(family: Family) -> ChatTemplate:
    tokenizer = make_tokenizer(family)
    return ChatTemplate(tokenizer, detect(tokenizer.chat_template), source=family)


def wire(*calls: ToolCall, content: str | None = None) -> Message:
    made = [
        {
            "id": f"call{place:05d}",
            "type": "function",
            "function": {"name": c.name, "arguments": json.dumps(c.arguments)},
        }
        for place, c in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": made}


def answer_text(family: Family, answer: Message) -> str:
    """The answer as the family's template writes it."""
    template = template_of(family)
    asked: list[Message] = [{"role": "user", "content": "Weather?"}]
    text = template.render([*asked, answer], TOOLS, opens=False)
    before = template.render(asked, TOOLS, opens=True)
    assert text.startswith(before)
    return text[len(before) :].removesuffix(template.closer)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tool_call_written_by_the_template_reads_back(family: Family) -> None:
    said = detect(TEMPLATES[family]).read(answer_text(family, wire(WEATHER)), TOOLS)
    assert said.tool_calls == [WEATHER]
    assert said.content == ""


@pytest.mark.parametrize("family", ["qwen", "mistral", "plain"])
def test_parallel_calls_read_back_in_order(family: Family) -> None:
    said = detect(TEMPLATES[family]).read(answer_text(family, wire(WEATHER, SEARCH, WEATHER)), TOOLS)
    assert said.tool_calls == [WEATHER, SEARCH, WEATHER]


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_text_is_content(family: Family) -> None:
    text = answer_text(family, {"role": "assistant", "content": "It is fine: {sunny}."})
    said = detect(TEMPLATES[family]).read(text, TOOLS)
    assert (said.content.strip(), said.tool_calls) == ("It is fine: {sunny}.", [])


def test_text_before_a_call_is_kept() -> None:
    said = named("hermes").read(answer_text("qwen", wire(WEATHER, content="Let me look.")), TOOLS)
    assert (said.content, said.tool_calls) == ("Let me look.", [WEATHER])


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": \n</tool_call>'),
        ("hermes", '<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>'),
        ("hermes", '<tool_call>\n{"name": "search", "arguments": {}}'),
        ("hermes", '<tool_call>\n{"name": ["search"], "arguments": {}}\n</tool_call>'),
        ("llama3", '{"name": "get_weather", "parameters": {"city": "x"'),
        ("llama3", '{"name": "search", "parameters": {}} and more'),
        ("mistral", '[TOOL_CALLS] [{"name": "search", "arguments": {}}'),
        ("mistral", "[TOOL_CALLS]search[ARGS]{"),
        ("generic", '{"tool": "unknown", "arguments": {}}'),
        ("generic", "[]"),
    ],
)
def test_a_broken_call_stays_content(format: str, text: str) -> None:
    said = named(format).read(text, TOOLS)
    assert (said.content, said.tool_calls) == (text, [])


@pytest.mark.parametrize("format", ["hermes", "llama3", "mistral", "generic"])
@pytest.mark.parametrize("name", [None, "search"])
def test_a_forced_opening_is_the_beginning_of_a_call(format: str, name: str | None) -> None:
    opening = named(format).opening(name)
    rest = '{"city": "Paris"}' if name else 'search", "arguments": {"city": "Paris"}'
    ends = {"hermes": "}\n</tool_call>", "llama3": "}", "mistral": "}]", "generic": "}"}
    said = named(format).read(opening + rest + ends[format], TOOLS)
    assert said.tool_calls == [ToolCall("search", {"city": "Paris"})]


def test_mistral_s_newer_form_is_read() -> None:
    text = '[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}[TOOL_CALLS]search[CALL_ID]abcdefghi[ARGS]{}'
    assert named("mistral").read(text, TOOLS).tool_calls == [
        ToolCall("get_weather", {"city": "Rome"}),
        ToolCall("search", {}),
    ]


def test_llama_s_calls_after_its_mark_are_read() -> None:
    text = (
        '<|python_tag|>{"name": "search", "parameters": {}}; {"name": "search", "parameters": "{\\"city\\": \\"x\\"}"}'
    )
    assert named("llama3").read(text, TOOLS).tool_calls == [ToolCall("search", {}), ToolCall("search", {"city": "x"})]


def test_reasoning_is_told_apart() -> None:
    said = named("hermes").read("<think>\nhm\n</think>\n\nIt is 4.", TOOLS)
    assert (said.reasoning, said.content) == ("hm", "It is 4.")
    assert named("hermes").read("opened before\n</think>\n\nYes", ()).reasoning == "opened before"
    cut = named("hermes").read("<think>\nnever done", ())
    assert (cut.reasoning, cut.content) == ("never done", "")


def test_without_tools_nothing_is_a_call() -> None:
    text = '<tool_call>\n{"name": "search", "arguments": {}}\n</tool_call>'
    assert named("hermes").read(text, ()).content == text


def test_a_generic_call_may_stand_in_a_fence() -> None:
    said = named("generic").read('Looking.\n```json\n{"tool": "search", "arguments": {}}\n```', TOOLS)
    assert (said.content, said.tool_calls) == ("Looking.", [ToolCall("search", {})])


def test_a_template_without_tools_is_told_of_them_in_words() -> None:
    template = template_of("plain")
    messages: list[Message] = [
        {"role": "user", "content": "Weather?"},
        wire(WEATHER),
        {"role": "tool", "tool_call_id": "call00000", "content": "sunny"},
    ]
    text = template.render(messages, TOOLS, opens=True)
    assert text.startswith("<system>\nYou can call these tools:")
    assert '{"tool": "get_weather"' in text
    assert "<user>\nTool result:\nsunny" in text


def test_the_family_is_seen_in_the_template() -> None:
    assert [detect(TEMPLATES[family]).name for family in FAMILIES] == ["hermes", "llama3", "mistral", "generic"]
    assert detect("{{ tools }}", "mistral").name == "mistral"
    assert detect("{{ tools }}", "new_model").name == "generic"


def test_an_unknown_format_has_a_hint() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'hermes'"):
        named("hermse")


def test_foreign_ids_fit_a_template_that_counts_their_letters() -> None:
    messages: list[Message] = [{"role": "user", "content": "?"}, wire(WEATHER)]
    messages[1]["tool_calls"][0]["id"] = "call_of_another_model"
    messages.append({"role": "tool", "tool_call_id": "call_of_another_model", "content": "sunny"})
    text = template_of("mistral").render(messages, TOOLS, opens=True)
    written = text.split('"id": "')[1][:9]
    assert f'"call_id": "{written}"' in text


def test_what_a_template_refuses_is_said_in_its_words() -> None:
    with pytest.raises(ModelError, match="one tool call at a time"):
        template_of("llama").render([{"role": "user", "content": "?"}, wire(WEATHER, SEARCH)], TOOLS, opens=True)


def test_images_are_refused() -> None:
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    with pytest.raises(ModelError, match="reads text only.*image_url"):
        template_of("qwen").render([{"role": "user", "content": parts}], opens=True)
