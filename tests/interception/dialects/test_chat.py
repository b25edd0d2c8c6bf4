"""Chat completions: the older function form, several choices, spoken answers, token ids, Azure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentlightning.data.call import Reply
from agentlightning.errors import DataError
from agentlightning.interception.dialects.chat import ChatCompletions

CHAT = ChatCompletions()
LOOK = {"name": "look", "arguments": '{"id":1}'}
OLD = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "function_call": LOOK},
        {"role": "function", "name": "look", "content": "found"},
    ],
    "functions": [{"name": "look", "parameters": {}}],
    "function_call": "auto",
}


def test_functions_of_the_older_form_are_told_as_tools() -> None:
    call = CHAT.call(OLD, "a")
    assert call.tools == [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    assert call.messages[1]["tool_calls"] == [{"id": "", "type": "function", "function": LOOK}]
    assert call.messages[2] == {"role": "tool", "tool_call_id": "", "name": "look", "content": "found"}
    assert CHAT.rewrite(OLD, call, call) == OLD


def test_a_changed_request_of_the_older_form_stays_in_it() -> None:
    before = CHAT.call(OLD, "a")
    messages = [*before.messages[:2], {**before.messages[2], "content": "lost"}, *before.messages[1:2]]
    tools = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}]
    after = msgspec.structs.replace(before, messages=messages, tools=tools)
    new = CHAT.rewrite(OLD, before, after)
    assert new["messages"][:2] == OLD["messages"][:2]
    assert new["messages"][2] == {"role": "function", "name": "look", "content": "lost"}
    assert new["messages"][3] == OLD["messages"][1]
    assert new["functions"][0]["description"] == "Look." and "tools" not in new


def test_further_choices_are_kept_beside_the_first() -> None:
    choices: Any = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for i, text in enumerate("abc")
    ]
    reply = CHAT.reply({"choices": choices})
    assert (reply.text, [message["content"] for message in reply.alternatives]) == ("a", ["b", "c"])
    chunks = [{"choices": [{"index": i, "delta": {"content": text}}]} for text in "xy" for i in (2, 0, 1)]
    reply = CHAT.assemble(chunks)
    assert (reply.text, [message["content"] for message in reply.alternatives]) == ("xy", ["xy", "xy"])
    call = CHAT.call({"messages": [], "n": 3}, "a")
    written = list(CHAT.respond_stream(reply, call, id="r", created=0.0))
    assert CHAT.assemble(CHAT.events(b"".join(written))).alternatives == reply.alternatives


def test_token_ids_and_log_probabilities_of_vllm_are_read_whole_and_streamed() -> None:
    def logprobs(*values: float) -> dict[str, Any]:
        return {"content": [{"token": "t", "logprob": value, "top_logprobs": []} for value in values]}

    whole = CHAT.reply(
        {
            "prompt_token_ids": [1, 2],
            "choices": [{"message": {"content": "ab"}, "token_ids": [3, 4], "logprobs": logprobs(-0.1, -2)}],
        }
    )
    pieces: list[dict[str, Any]] = [
        {"prompt_token_ids": [1, 2], "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
        {"choices": [{"index": 0, "delta": {"content": "a"}, "token_ids": [3], "logprobs": logprobs(-0.1)}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "token_ids": [4], "logprobs": logprobs(-2)}]},
    ]
    streamed = CHAT.assemble(pieces)
    for reply in (whole, streamed):
        assert (reply.prompt_ids, reply.completion_ids, reply.logprobs) == ([1, 2], [3, 4], [-0.1, -2.0])


def test_a_spoken_answer_is_put_together() -> None:
    deltas: list[dict[str, Any]] = [
        {"audio": {"id": "a1", "transcript": "He"}},
        {"audio": {"data": "AA"}},
        {"audio": {"data": "BB", "transcript": "llo"}},
        {"audio": {"expires_at": 9}},
        {"annotations": [{"n": 1}]},
        {"annotations": [{"n": 2}]},
    ]
    message = CHAT.assemble({"choices": [{"index": 0, "delta": delta}]} for delta in deltas).message
    assert message["audio"] == {"id": "a1", "transcript": "Hello", "data": "AABB", "expires_at": 9}
    assert message["annotations"] == [{"n": 1}, {"n": 2}]


def test_a_custom_tool_call_and_vendor_fields_survive_the_stream() -> None:
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "id": "c", "type": "custom", "custom": {"name": "sql", "input": "sel"}}]},
        {"tool_calls": [{"index": 0, "custom": {"input": "ect"}, "extra_content": {"signature": "s"}}]},
    ]
    [call] = CHAT.assemble({"choices": [{"delta": delta}]} for delta in deltas).message["tool_calls"]
    assert call["custom"] == {"name": "sql", "input": "select"} and call["extra_content"] == {"signature": "s"}
    reply = Reply({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls")
    events = CHAT.respond_stream(reply, CHAT.call({"messages": []}, "a"), id="r", created=0.0, with_usage=False)
    assert CHAT.assemble(CHAT.events(b"".join(events))) == reply


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/openai/deployments/gpt%204o/chat/completions", "gpt 4o"),
        ("/v1/chat/completions", "m"),
        ("/deployments/x/y/chat/completions", "m"),
    ],
)
def test_at_azure_the_path_names_the_model(path: str, model: str) -> None:
    assert CHAT.call({"model": "m", "messages": []}, "a", path).model == model


def test_messages_that_are_no_objects_are_refused() -> None:
    with pytest.raises(DataError, match="messages"):
        CHAT.call({"messages": ["hi"]}, "a")


def test_usage_is_wanted_by_those_who_asked() -> None:
    assert CHAT.wants_usage({"stream_options": {"include_usage": True}})
    assert not CHAT.wants_usage({"stream_options": None}) and not CHAT.wants_usage({})
