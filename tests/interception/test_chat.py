"""The chat-completions dialect: what it reads, what it keeps, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.servers import chunks_of, completion_of

from agentlightning.data.call import Usage
from agentlightning.errors import DataError
from agentlightning.interception.dialects.chat import ChatCompletions

CHAT = ChatCompletions()
BODY = {
    "model": "m",
    "messages": [{"role": "user", "content": "hi", "custom": 1}],
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "temperature": 0.5,
    "x_unknown": {"deep": [1]},
}
LOOK = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": 1}'}}


def test_a_request_becomes_a_call() -> None:
    call = CHAT.call(BODY | {"stream": True, "stream_options": {}}, "helper")
    assert (call.agent, call.model, call.stream) == ("helper", "m", True)
    assert call.messages == BODY["messages"] and call.tools == BODY["tools"]
    assert call.params == {"temperature": 0.5, "x_unknown": {"deep": [1]}}


def test_an_unchanged_call_rewrites_to_the_same_request() -> None:
    call = CHAT.call(BODY, "helper")
    assert CHAT.rewrite(BODY, call, call) == BODY


def test_rewriting_changes_what_differs_and_keeps_the_rest() -> None:
    before = CHAT.call(BODY, "helper")
    messages = [{"role": "system", "content": "s"}, *before.messages]
    params = {"x_unknown": {"deep": [1]}, "top_p": 0.1}
    after = msgspec.structs.replace(before, messages=messages, model="n", params=params, tools=[])
    assert CHAT.rewrite(BODY, before, after) == {
        "model": "n",
        "messages": messages,
        "tools": [],
        "x_unknown": {"deep": [1]},
        "top_p": 0.1,
    }


def test_a_request_without_messages_is_refused() -> None:
    with pytest.raises(DataError, match="messages"):
        CHAT.call({"input": "x"}, "helper")


def test_of_several_choices_the_first_is_the_reply() -> None:
    body = completion_of("a", {})
    choices = [dict(body["choices"][0], index=1, message={"role": "assistant", "content": "b"}), body["choices"][0]]
    assert CHAT.reply(body | {"choices": choices}).text == "a"
    assert CHAT.assemble(chunks_of(body | {"choices": choices}, include_usage=True)).text == "a"


@pytest.mark.parametrize(
    "answer", ["one two three", {"tool_calls": [LOOK]}, {"content": "so", "tool_calls": [LOOK, LOOK]}]
)
def test_a_stream_adds_up_to_the_reply_of_the_same_completion(answer: Any) -> None:
    body = completion_of(answer, {"model": "m"})
    assert CHAT.assemble(chunks_of(body, include_usage=True)) == CHAT.reply(body)


def test_a_stream_cut_short_adds_up_to_what_came() -> None:
    events = list(chunks_of(completion_of({"tool_calls": [LOOK]}, {}), include_usage=False))[:3]
    [call] = CHAT.assemble(events).message["tool_calls"]
    assert call["function"]["name"] == "look" and LOOK["function"]["arguments"].startswith(
        call["function"]["arguments"]
    )


def test_an_old_function_call_is_told_as_a_tool_call() -> None:
    called = {"name": "look", "arguments": '{"id": 1}'}
    told = [{"id": "", "type": "function", "function": called}]
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "function_call": called}}
    assert CHAT.reply({"choices": [choice]}).message == {"role": "assistant", "content": None, "tool_calls": told}
    deltas = [
        {"function_call": {"name": "look"}},
        {"function_call": {"arguments": '{"id"'}},
        {"function_call": {"arguments": ": 1}"}},
    ]
    assert CHAT.assemble({"choices": [{"delta": delta}]} for delta in deltas).message["tool_calls"] == told


def test_reasoning_and_refusal_text_is_put_together_too() -> None:
    deltas = [{"reasoning_content": "hm"}, {"reasoning_content": "m"}, {"refusal": "no"}]
    message = CHAT.assemble({"choices": [{"delta": delta}]} for delta in deltas).message
    assert message == {"role": "assistant", "content": None, "reasoning_content": "hmm", "refusal": "no"}


def test_usage_has_its_details() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 7},
        "completion_tokens_details": {"reasoning_tokens": 6},
    }
    reply = CHAT.reply(completion_of("a", {}) | {"usage": usage})
    assert reply.usage == Usage(input_tokens=9, output_tokens=8, cached_tokens=7, reasoning_tokens=6)


@pytest.mark.parametrize(
    "body", [{}, {"choices": []}, {"choices": "x"}, {"choices": [1]}, {"error": {"message": "busy"}}]
)
def test_a_response_without_choices_is_refused(body: Any) -> None:
    with pytest.raises(DataError, match="choices"):
        CHAT.reply(body)


@pytest.mark.parametrize(
    ("content", "changed"),
    [
        (b'{"a": 1.0, "stream": true }', b'{"a": 1.0, "stream": true ,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{"a":1}}', b'{"stream":true,"stream_options":{"a":1,"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{"include_usage":false}}', None),
        (b'{"stream":true,"stream_options":3}', None),
        (b'{"stream":false}', None),
        (b'{"messages":[{"stream":true}]}', None),
    ],
)
def test_usage_is_asked_for_only_where_the_agent_left_it_open(content: bytes, changed: bytes | None) -> None:
    assert CHAT.ask_usage(content) == changed


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("choices", "delta", "message", "tool_calls", "function", "arguments", "index", "usage", "prompt_tokens")
SHAPES = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner | st.lists(inner, max_size=2), max_size=4),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from((*NAMES, "messages", "tools", "model")), SHAPES, max_size=4))
def test_no_object_upsets_the_dialect_and_what_it_reads_can_be_stored(body: dict[str, Any]) -> None:
    stored = [CHAT.assemble([body, body])]
    for read in (CHAT.reply, lambda given: CHAT.call(given, "helper")):
        try:
            stored.append(read(body))
        except DataError:
            continue
    for value in stored:
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
    assert json.loads(json.dumps(body)) == body
