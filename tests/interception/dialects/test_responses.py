"""The Responses format: instructions and items, follow-up calls, streams that end early."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agentlightning.data.call import Usage
from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.errors import DataError
from agentlightning.interception.dialects import dialect_of
from agentlightning.interception.dialects.responses import Responses

RESPONSES = Responses()


def steered(body: dict[str, Any], policy: Policy) -> dict[str, Any]:
    before = RESPONSES.call(body, "a")
    return RESPONSES.rewrite(body, before, policy.apply(before).call)


def instructed(template: str, text: str) -> Policy:
    return Policy().with_prompt(PromptSite("s", "a", "system", template), text)


def test_only_the_creation_of_a_response_is_a_call() -> None:
    for path in ("/v1/responses/resp_1", "/v1/responses/resp_1/input_items", "/v1/responses/resp_1/cancel"):
        assert dialect_of(path) is None
    assert dialect_of("/openai/v1/responses") is not None


def test_one_text_stays_one_text() -> None:
    prefix = Policy().with_prompt(PromptSite("p", "a", "prefix", "Hi"), "Hello")
    assert steered({"input": "Hi"}, prefix) == {"input": "Hello"}
    assert steered({"input": "Hi"}, instructed("", "Be kind.")) == {"input": "Hi", "instructions": "Be kind."}
    assert steered({"input": "Hi"}, Policy().with_demos("a", [Demo("1", "2")]))["input"] == [
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Hi"},
    ]


def test_a_developer_item_is_steered_where_it_stands() -> None:
    part = {"type": "input_text", "text": "Be brief."}
    body = {"input": [{"role": "developer", "content": [part]}, {"role": "user", "content": "Hi"}]}
    new = steered(body, instructed("Be brief.", "Be long."))
    assert new["input"] == [{"role": "developer", "content": [part | {"text": "Be long."}]}, body["input"][1]]
    assert "instructions" not in new


def test_instructions_come_before_a_developer_item_and_both_are_read() -> None:
    body = {
        "instructions": "One.",
        "input": [{"role": "developer", "content": "Two."}, {"role": "user", "content": "?"}],
    }
    assert [m["content"] for m in RESPONSES.call(body, "a").messages] == ["One.", "Two.", "?"]
    assert steered(body, instructed("One.", "Three."))["input"] == body["input"]


def test_a_follow_up_call_holds_only_what_is_new_and_is_steered_all_the_same() -> None:
    results = [{"type": "function_call_output", "call_id": "c1", "output": "42"}]
    body = {"previous_response_id": "resp_1", "instructions": "Be brief.", "input": results}
    call = RESPONSES.call(body, "a")
    assert call.params["previous_response_id"] == "resp_1"
    assert [message["role"] for message in call.messages] == ["system", "tool"]
    assert steered(body, instructed("Be brief.", "Be long.")) == body | {"instructions": "Be long."}


def test_taking_the_instructions_out_takes_the_field_out() -> None:
    body = {"instructions": "Be brief.", "input": "Hi"}
    before = RESPONSES.call(body, "a")
    after = msgspec.structs.replace(before, messages=before.messages[1:])
    assert RESPONSES.rewrite(body, before, after) == {"input": "Hi"}


def test_a_second_system_message_in_front_joins_the_instructions() -> None:
    body = {"instructions": "Be brief.", "input": "Hi"}
    before = RESPONSES.call(body, "a")
    after = msgspec.structs.replace(before, messages=[{"role": "system", "content": "First."}, *before.messages])
    assert RESPONSES.rewrite(body, before, after)["instructions"] == "First.\n\nBe brief."


def test_a_turn_of_the_model_is_one_message() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "web_search_call", "id": "ws", "status": "completed"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "So"}, {"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "sql", "input": "select"},
    ]
    body = {"input": [{"role": "user", "content": "?"}, *items]}
    [_, message] = RESPONSES.call(body, "a").messages
    assert message == {
        "role": "assistant",
        "content": [items[1], {"type": "text", "text": "So"}],
        "reasoning_content": "Hm.",
        "refusal": "no",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "sql", "input": "select"}},
        ],
    }
    assert RESPONSES.reply({"output": items}).message == message


def test_editing_what_the_model_said_leaves_its_reasoning_and_calls() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "x"},
        {"type": "message", "id": "m", "role": "assistant", "content": [{"type": "output_text", "text": "So"}]},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "look", "arguments": "{}"},
    ]
    body = {"input": items}
    before = RESPONSES.call(body, "a")
    after = msgspec.structs.replace(before, messages=[{**before.messages[0], "content": "Well"}])
    new = RESPONSES.rewrite(body, before, after)["input"]
    said = {"type": "output_text", "text": "Well", "annotations": []}
    assert new == [items[0], items[1] | {"content": [said]}, items[2]]


def test_files_and_images_by_reference_pass_and_read_as_parts() -> None:
    parts = [
        {"type": "input_file", "file_id": "f1"},
        {"type": "input_image", "file_id": "f2", "detail": "low"},
        {"type": "input_image", "image_url": "https://h/x.png", "detail": "low"},
    ]
    [message] = RESPONSES.call({"input": [{"role": "user", "content": parts}]}, "a").messages
    assert message["content"] == [
        {"type": "file", "file": {"file_id": "f1"}},
        parts[1],
        {"type": "image_url", "image_url": {"url": "https://h/x.png", "detail": "low"}},
    ]


@pytest.mark.parametrize("body", [{}, {"input": 3}, {"input": ["hi"]}, {"input": {}}])
def test_what_has_no_input_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="input"):
        RESPONSES.call(body, "a")


def test_a_stored_prompt_needs_no_input() -> None:
    assert RESPONSES.call({"prompt": {"id": "pmpt_1"}}, "a").messages == []


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


STARTED = [
    event("created", response={"id": "r", "model": "m-1", "status": "in_progress", "output": []}),
    event("output_item.added", output_index=0, item={"type": "reasoning", "id": "rs", "summary": []}),
    event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Hm"),
    event("reasoning_summary_text.delta", output_index=0, summary_index=0, delta="m."),
    event("output_item.done", output_index=0, item={"type": "reasoning", "summary": [{"text": "Hmm."}]}),
    event("output_item.added", output_index=1, item={"type": "message", "role": "assistant", "content": []}),
    event("output_text.delta", output_index=1, content_index=0, delta="Let me"),
    event("output_text.delta", output_index=1, content_index=0, delta=" see"),
    event("output_item.added", output_index=2, item={"type": "function_call", "call_id": "c1", "name": "look"}),
    event("function_call_arguments.delta", output_index=2, delta='{"i'),
]


def test_a_stream_cut_short_adds_up_to_what_came() -> None:
    reply = RESPONSES.assemble(STARTED)
    assert (reply.model, reply.finish_reason, reply.usage) == ("m-1", None, None)
    assert reply.message == {
        "role": "assistant",
        "content": "Let me see",
        "reasoning_content": "Hmm.",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"i'}}],
    }


def test_a_last_event_without_output_keeps_what_was_streamed() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2, "input_tokens_details": None}
    end = event("completed", response={"model": "m-1", "status": "completed", "output": None, "usage": usage})
    reply = RESPONSES.assemble([*STARTED, end])
    assert reply.text == "Let me see" and reply.usage == Usage(3, 2)


def test_a_failed_response_says_why() -> None:
    failed = {"status": "failed", "error": {"code": "server_error", "message": "overloaded"}, "output": []}
    assert RESPONSES.failure(failed) == RESPONSES.failure(event("failed", response=failed)) == "overloaded"
    assert RESPONSES.failure({"type": "error", "code": "x", "message": "too much", "param": None}) == "too much"
    assert RESPONSES.failure(event("created", response={"error": None})) is None
    assert RESPONSES.reply(failed).finish_reason == "failed"


def test_log_probabilities_are_read_and_written_when_asked_for() -> None:
    part = {
        "type": "output_text",
        "text": "ab",
        "logprobs": [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2.5}],
    }
    reply = RESPONSES.reply({"output": [{"type": "message", "role": "assistant", "content": [part]}]})
    assert reply.logprobs == [-1.0, -2.5]
    asked = RESPONSES.call({"input": "Hi", "include": ["message.output_text.logprobs"]}, "a")
    assert RESPONSES.reply(RESPONSES.respond(reply, asked, id="r", created=0.0)).logprobs == reply.logprobs
