"""Anthropic's Messages: instructions as text or blocks, tool results among text, thinking, usage, streams."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentlightning.data.call import Call, Message, Reply, Usage
from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.interception.dialects import dialect_of
from agentlightning.interception.dialects.messages import Messages

MESSAGES = Messages()
CACHED = {"cache_control": {"type": "ephemeral"}}
HI = {"role": "user", "content": "Hi"}


def request(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": [HI]} | fields


def rewritten(body: dict[str, Any], messages: list[Message]) -> dict[str, Any]:
    before = MESSAGES.call(body, "a")
    return MESSAGES.rewrite(body, before, msgspec.structs.replace(before, messages=messages))


def steered(body: dict[str, Any], policy: Policy) -> dict[str, Any]:
    before = MESSAGES.call(body, "a")
    return MESSAGES.rewrite(body, before, policy.apply(before).call)


def instructed(template: str, text: str) -> Policy:
    return Policy().with_prompt(PromptSite("s", "a", "system", template), text)


def test_only_messages_are_calls() -> None:
    assert dialect_of("/v1/messages/count_tokens") is None and dialect_of("/v1/messages/batches") is None
    assert dialect_of("/anthropic/v1/messages") is not None


def test_instructions_stay_text_or_blocks() -> None:
    body = request(system="Be brief.")
    assert steered(body, instructed("Be brief.", "Be long.")) == body | {"system": "Be long."}
    body = request(system=[{"type": "text", "text": "Be brief.", **CACHED}])
    assert steered(body, instructed("Be brief.", "Be long.")) == request(
        system=[{"type": "text", "text": "Be long.", **CACHED}]
    )
    assert steered(request(), instructed("", "Be kind.")) == request(system="Be kind.")


def test_a_second_system_message_joins_the_first() -> None:
    new: Message = {"role": "system", "content": "Two."}
    before = MESSAGES.call(request(system="One."), "a").messages
    assert rewritten(request(system="One."), [before[0], new, before[1]])["system"] == "One.\n\nTwo."
    body = request(system=[{"type": "text", "text": "One.", **CACHED}])
    before = MESSAGES.call(body, "a").messages
    assert rewritten(body, [before[0], new, before[1]])["system"] == [*body["system"], {"type": "text", "text": "Two."}]


def test_taking_the_instructions_out_takes_the_field_out() -> None:
    assert "system" not in rewritten(request(system="One."), [HI])


def test_results_and_text_of_one_turn_are_messages_of_their_own() -> None:
    blocks = [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "21"}], **CACHED},
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True, "content": "no such city"},
        {"type": "text", "text": "Go on.", **CACHED},
    ]
    body = request(messages=[HI, {"role": "user", "content": blocks}])
    call = MESSAGES.call(body, "a")
    assert call.messages[1:] == [
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "21"}]},
        {"role": "tool", "tool_call_id": "c2", "content": "no such city", "is_error": True},
        {"role": "user", "content": [blocks[2]]},
    ]
    changed = rewritten(body, [*call.messages[:2], {**call.messages[2], "content": "none"}, call.messages[3]])
    expected = [blocks[0], blocks[1] | {"content": "none"}, blocks[2]]
    assert changed["messages"] == [HI, {"role": "user", "content": expected}]


def test_new_results_of_one_turn_stand_in_one_message() -> None:
    called = [{"id": id, "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}} for id in ("c1", "c2")]
    results: list[Message] = [{"role": "tool", "tool_call_id": id, "content": "1"} for id in ("c1", "c2")]
    new = rewritten(request(), [HI, {"role": "assistant", "content": None, "tool_calls": called}, *results])
    assert [message["role"] for message in new["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in new["messages"][1]["content"]] == ["tool_use", "tool_use"]
    assert [block["tool_use_id"] for block in new["messages"][2]["content"]] == ["c1", "c2"]


def test_editing_what_the_model_said_leaves_its_signed_thinking_and_its_calls() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
        {"type": "text", "text": "So"},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {}, **CACHED},
    ]
    body = request(messages=[HI, {"role": "assistant", "content": blocks}])
    said = MESSAGES.call(body, "a").messages[1]
    assert (said["content"], said["reasoning_content"]) == ("So", "Hm.")
    new = rewritten(body, [HI, {**said, "content": "Well"}])
    assert new["messages"][1]["content"] == [blocks[0], {"type": "text", "text": "Well"}, blocks[2]]
    called = {**said["tool_calls"][0], "function": {"name": "look", "arguments": '{"id":1}'}}
    new = rewritten(body, [HI, {**said, "tool_calls": [called]}])
    assert new["messages"][1]["content"] == [*blocks[:2], {**blocks[2], "input": {"id": 1}}]


def test_demos_are_plain_turns() -> None:
    new = steered(request(system="S"), Policy().with_demos("a", [Demo("1", "2")]))
    assert new["messages"] == [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, HI]


def test_tools_of_the_vendors_own_pass_as_they_are() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    call = MESSAGES.call(request(tools=[search]), "a")
    assert call.tools == [search] and MESSAGES.rewrite(request(tools=[search]), call, call) == request(tools=[search])


def test_input_tokens_are_all_that_were_read() -> None:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 20, "output_tokens": 3}
    reply = MESSAGES.reply({"content": [], "usage": usage | {"output_tokens_details": {"thinking_tokens": 2}}})
    assert reply.usage == Usage(input_tokens=95, output_tokens=3, cached_tokens=70, reasoning_tokens=2)


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_stop_reasons_are_told_in_the_common_words(word: str, meaning: str) -> None:
    assert MESSAGES.reply({"content": [], "stop_reason": word}).finish_reason == meaning


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), msgspec.json.encode(e)) for e in events)


START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "model": "claude-x",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 4, "output_tokens": 1},
    },
}
BLOCKS = [
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "m."}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Let me "}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "see."}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"id": '}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "1}"}},
    {"type": "content_block_stop", "index": 2},
]
END = [
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 30}},
    {"type": "message_stop"},
]


def test_a_stream_of_the_vendor_adds_up() -> None:
    reply = MESSAGES.assemble(MESSAGES.events(sse(START, *BLOCKS, *END)))
    assert reply == Reply(
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hmm.",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id":1}'}}],
        },
        "tool_calls",
        Usage(input_tokens=14, output_tokens=30, cached_tokens=4),
        "claude-x",
    )


def test_a_stream_cut_in_a_tools_input_keeps_the_text_of_it() -> None:
    reply = MESSAGES.assemble([START, *BLOCKS[:-2]])
    assert reply.message["tool_calls"][0]["function"]["arguments"] == '{"id": ' and reply.finish_reason is None


def test_an_overloaded_stream_says_so() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert [MESSAGES.failure(event) for event in (START, error)] == [None, "Overloaded"]


def test_arguments_that_are_no_object_are_kept_as_what_they_are() -> None:
    called = [{"id": "", "type": "function", "function": {"name": "look", "arguments": "{broken"}}]
    reply = Reply({"role": "assistant", "content": None, "tool_calls": called})
    body = MESSAGES.respond(reply, Call("a", "m", []), id="r", created=0.0)
    assert body["content"] == [
        {"type": "tool_use", "id": "toolu_r_0", "name": "look", "input": {"arguments": "{broken"}}
    ]
