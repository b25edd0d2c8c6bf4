"""What holds for the requests of every dialect: read alike, rewritten exactly, steered in the right place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.contract.dialects.cases import (
    ANSWER,
    CASES,
    CONVERSATION,
    IMAGE,
    NEXT,
    QUESTION,
    SYSTEM,
    TOOL,
    Case,
)

from agentlightning.data.call import Call, Message
from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.errors import DataError


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(params=[name for name, case in CASES.items() if case.has_tools])
def chatty(request: pytest.FixtureRequest) -> Case:
    """A dialect with turns and tools."""
    return CASES[request.param]


def rewritten(case: Case, body: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], Call, Call]:
    """The new body, the call it was asked for, and what it reads as."""
    before = case.dialect.call(body, "ada", case.path)
    after = msgspec.structs.replace(before, **changes)
    new = case.dialect.rewrite(body, before, after)
    return new, after, case.dialect.call(new, "ada", case.path)


def apply(case: Case, body: dict[str, Any], policy: Policy) -> tuple[dict[str, Any], Call]:
    before = case.dialect.call(body, "ada", case.path)
    after = policy.apply(before).call
    return case.dialect.rewrite(body, before, after), after


def site(template: str, kind: Any = "system") -> PromptSite:
    return PromptSite("s", "ada", kind, template)


def test_the_same_conversation_reads_alike(case: Case) -> None:
    call = case.call()
    assert (call.agent, call.model, call.messages) == ("ada", "m", case.heard)
    assert call.params["temperature"] == 0.5 and call.params[case.cap] == 50


def test_tools_read_alike(chatty: Case) -> None:
    [tool] = chatty.call().tools
    tool.pop("vendor_field", None)
    assert tool == TOOL


def test_an_unchanged_call_is_the_same_request(case: Case) -> None:
    for body in (case.body(), case.plain):
        call = case.dialect.call(body, "ada", case.path)
        assert case.dialect.rewrite(body, call, call) == body


def test_an_equal_copy_of_the_call_is_the_same_request(case: Case) -> None:
    body, call = case.body(), case.call()
    copy = msgspec.json.decode(msgspec.json.encode(call), type=Call)
    assert case.dialect.rewrite(body, call, copy) == body


def test_rewriting_leaves_the_given_body_alone(case: Case) -> None:
    body = case.body()
    rewritten(case, body, messages=[{"role": "user", "content": "x"}], model="n", params={"temperature": 1})
    assert body == case.body()


def test_new_instructions_change_nothing_but_the_instructions(case: Case) -> None:
    new, after = apply(case, case.body(), Policy().with_prompt(site(SYSTEM), "You are Bob."))
    assert case.dialect.call(new, "ada", case.path).messages == after.messages
    assert msgspec.json.encode(new) == msgspec.json.encode(case.body()).replace(SYSTEM.encode(), b"You are Bob.")


def test_instructions_are_inserted_where_there_were_none(case: Case) -> None:
    new, after = apply(case, case.plain, Policy().with_prompt(site(""), "You are Bob."))
    read = case.dialect.call(new, "ada", case.path)
    assert read.messages == after.messages
    assert read.messages[0] == {"role": "system", "content": "You are Bob."}
    assert read.params == case.dialect.call(case.plain, "ada", case.path).params


def test_the_first_users_text_is_steered_and_nothing_else(case: Case) -> None:
    new, after = apply(case, case.body(), Policy().with_prompt(site(QUESTION, "prefix"), "How much is it?"))
    assert case.dialect.call(new, "ada", case.path).messages == after.messages
    assert msgspec.json.encode(new) == msgspec.json.encode(case.body()).replace(QUESTION.encode(), b"How much is it?")


def test_demos_become_turns_after_the_instructions(chatty: Case) -> None:
    policy = Policy().with_demos("ada", [Demo("1 + 1?", "2"), Demo("2 + 2?", "4")])
    for body in (chatty.body(), chatty.plain):
        new, after = apply(chatty, body, policy)
        assert chatty.dialect.call(new, "ada", chatty.path).messages == after.messages
        assert [m["role"] for m in after.messages if m["role"] != "system"][:5] == ["user", "assistant"] * 2 + ["user"]


def test_instructions_prefix_demos_model_and_sampling_change_together(case: Case) -> None:
    policy = (
        Policy(models={"ada": "n"}, sampling={"ada": {"temperature": 0.0, case.cap: 9}})
        .with_prompt(site(SYSTEM), "You are Bob.")
        .with_prompt(PromptSite("p", "ada", "prefix", QUESTION), "How much?")
        .with_demos("ada", [Demo("1 + 1?", "2")])
    )
    new, after = apply(case, case.body(), policy)
    read = case.dialect.call(new, "ada", case.path)
    assert (read.model, read.params) == ("n", after.params)
    assert read.messages == after.messages if case.has_tools else read.messages[-1]["content"].endswith("How much?")
    assert "You are Bob." in str(new) and SYSTEM not in str(new)


def test_a_parameter_taken_away_and_one_added_read_back(case: Case) -> None:
    params = {key: value for key, value in case.call().params.items() if key != "temperature"} | {"top_p": 0.1}
    _, after, read = rewritten(case, case.body(), params=params)
    assert read == after


def test_a_changed_tool_keeps_the_fields_of_its_format(chatty: Case) -> None:
    [tool] = chatty.call().tools
    better = {**tool, "function": {**tool["function"], "description": "Multiply two numbers."}}
    new, after, read = rewritten(chatty, chatty.body(), tools=[better])
    assert read.tools == after.tools and new["tools"][0]["vendor_field"] == 1
    assert msgspec.json.encode(new | {"tools": 0}) == msgspec.json.encode(chatty.body() | {"tools": 0})


def test_a_new_tool_is_written_in_the_formats_own_shape(chatty: Case) -> None:
    other = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    new, after, read = rewritten(chatty, chatty.body(), tools=[*chatty.call().tools, other])
    assert read.tools == after.tools and new["tools"][0] == chatty.body()["tools"][0]


def test_every_message_of_a_conversation_can_be_edited(chatty: Case) -> None:
    """As a person does at a breakpoint."""
    for place, message in enumerate(chatty.heard):
        changed: Message = {**message, "content": "edited"}
        messages = [*chatty.heard[:place], changed, *chatty.heard[place + 1 :]]
        _, after, read = rewritten(chatty, chatty.body(), messages=messages)
        assert read.messages == after.messages


def test_every_message_of_a_conversation_can_be_taken_out(chatty: Case) -> None:
    for place in (0, 1, len(chatty.heard) - 1):
        messages = [*chatty.heard[:place], *chatty.heard[place + 1 :]]
        _, after, read = rewritten(chatty, chatty.body(), messages=messages)
        assert read.messages == after.messages


def test_a_tool_call_in_the_history_can_be_edited(chatty: Case) -> None:
    called = chatty.heard[2]["tool_calls"][0]
    edited = {**called, "function": {"name": "multiply", "arguments": '{"a":1}'}}
    messages = [*chatty.heard[:2], {**chatty.heard[2], "tool_calls": [edited]}, *chatty.heard[3:]]
    _, after, read = rewritten(chatty, chatty.body(), messages=messages)
    assert read.messages == after.messages


def test_a_text_beside_an_image_can_be_edited_and_the_image_stays(chatty: Case) -> None:
    parts = [{"type": "text", "text": "Look!"}, IMAGE]
    messages = [*chatty.heard[:-1], {"role": "user", "content": parts}]
    new, after, read = rewritten(chatty, chatty.body(), messages=messages)
    assert read.messages == after.messages
    assert msgspec.json.encode(new) == msgspec.json.encode(chatty.body()).replace(NEXT.encode(), b"Look!")


def test_a_whole_conversation_can_be_written_anew(chatty: Case) -> None:
    _, after, read = rewritten(chatty, chatty.plain, messages=CONVERSATION)
    assert read.messages == after.messages
    assert ANSWER in str(read.messages)


@pytest.mark.parametrize("body", [{}, {"model": "m"}, {"model": "m", "messages": 3, "input": 3, "prompt": 3}])
def test_what_is_no_such_request_is_refused(case: Case, body: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        case.dialect.call(body, "ada", case.path)
