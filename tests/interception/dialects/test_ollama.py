"""Ollama's native formats, against the requests and answers its documentation shows (docs/api.md of ollama/ollama)."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.data.resource import Demo, Policy, PromptSite
from agentlightning.interception.dialects.ollama import OllamaChat, OllamaGenerate

CHAT, GENERATE = OllamaChat(), OllamaGenerate()
ASK: dict[str, Any] = {"model": "llama3.2", "messages": [{"role": "user", "content": "why is the sky blue?"}]}
AT = "2023-08-04T19:22:45.499127Z"
TIMES = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}


def lines(*bodies: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(body).encode() + b"\n" for body in bodies)


def test_a_request_streams_unless_it_says_no() -> None:
    for dialect, body in ((CHAT, ASK), (GENERATE, {"model": "m", "prompt": "x"})):
        assert dialect.call(body, "a").stream and dialect.call(body | {"stream": True}, "a").stream
        assert not dialect.call(body | {"stream": False}, "a").stream


def test_the_documented_chat_stream_is_read() -> None:
    content = lines(
        {
            "model": "llama3.2",
            "created_at": AT,
            "message": {"role": "assistant", "content": "The", "images": None},
            "done": False,
        },
        {"model": "llama3.2", "created_at": AT, "message": {"role": "assistant", "content": " sky"}, "done": False},
        {"model": "llama3.2", "created_at": AT, "done": True, **TIMES},
    )
    expected = Reply({"role": "assistant", "content": "The sky"}, "stop", Usage(26, 282), "llama3.2")
    assert CHAT.assemble(CHAT.events(content)) == expected
    cut = CHAT.assemble(CHAT.events(content[:220]))
    assert (cut.text, cut.finish_reason, cut.usage) == ("The", None, None)


def test_the_documented_whole_chat_answer_is_read() -> None:
    body = {
        "model": "llama3.1",
        "created_at": AT,
        "message": {"role": "assistant", "content": '{"age": 22}'},
        "done_reason": "stop",
        "done": True,
        **TIMES,
    }
    assert CHAT.reply(body) == Reply(
        {"role": "assistant", "content": '{"age": 22}'}, "stop", Usage(26, 282), "llama3.1"
    )


def test_the_documented_tool_call_is_read() -> None:
    called = {"function": {"name": "get_current_weather", "arguments": {"format": "celsius", "location": "Paris, FR"}}}
    message = {"role": "assistant", "content": "", "tool_calls": [called]}
    expected = {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "",
                "type": "function",
                "function": {
                    "name": "get_current_weather",
                    "arguments": '{"format":"celsius","location":"Paris, FR"}',
                },
            }
        ],
    }
    whole = CHAT.reply({"model": "m", "message": message, "done_reason": "stop", "done": True})
    streamed = CHAT.assemble(
        CHAT.events(lines({"message": message, "done": False}, {"message": {"content": ""}, "done": True}))
    )
    assert whole.message == streamed.message == expected and whole.finish_reason == "tool_calls"


def test_the_documented_generate_stream_is_read() -> None:
    content = lines(
        {"model": "llama3.2", "created_at": AT, "response": "The", "done": False},
        {"model": "llama3.2", "created_at": AT, "response": "", "done": True, "context": [1, 2, 3], **TIMES},
    )
    expected = Reply({"role": "assistant", "content": "The"}, "stop", Usage(26, 282), "llama3.2")
    assert GENERATE.assemble(GENERATE.events(content)) == expected


def test_what_we_write_has_the_documented_fields() -> None:
    said = Reply({"role": "assistant", "content": "Hello there, how are you today?"}, "length", Usage(3, 2))
    call = CHAT.call(ASK, "a")
    assert CHAT.respond(said, call, id="r", created=1691176965.499127) == {
        "model": "llama3.2",
        "created_at": AT,
        "message": {"role": "assistant", "content": "Hello there, how are you today?"},
        "done": True,
        "done_reason": "length",
        "prompt_eval_count": 3,
        "eval_count": 2,
    }
    *pieces, last = (json.loads(line) for line in CHAT.respond_stream(said, call, id="r", created=1691176965.499127))
    assert [piece.keys() for piece in pieces] == [{"model", "created_at", "message", "done"}] * 2
    assert all(piece["done"] is False for piece in pieces)
    assert last["message"] == {"role": "assistant", "content": ""} and last["done"] is True
    [first, *_] = (json.loads(line) for line in GENERATE.respond_stream(said, call, id="r", created=0.0))
    assert first == {
        "model": "llama3.2",
        "created_at": "1970-01-01T00:00:00.000000Z",
        "response": "Hello there, how",
        "done": False,
    }


def test_thinking_is_told_as_reasoning_and_back() -> None:
    reply = CHAT.reply({"message": {"role": "assistant", "content": "4", "thinking": "2+2"}, "done": True})
    assert reply.message == {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    assert CHAT.respond(reply, CHAT.call(ASK, "a"), id="r", created=0.0)["message"]["thinking"] == "2+2"


def test_options_are_parameters_and_go_back_where_they_belong() -> None:
    body = ASK | {"options": {"temperature": 1, "num_ctx": 8}, "format": "json"}
    before = CHAT.call(body, "a")
    assert before.params == {"temperature": 1, "num_ctx": 8, "format": "json"}
    params = {"temperature": 0, "format": {"type": "object"}, "num_predict": 9, "keep_alive": 0}
    new = CHAT.rewrite(body, before, msgspec.structs.replace(before, params=params))
    assert new == ASK | {"options": {"temperature": 0, "num_predict": 9}, "format": {"type": "object"}, "keep_alive": 0}


def test_options_appear_where_there_were_none() -> None:
    before = CHAT.call(ASK, "a")
    after = Policy(sampling={"a": {"temperature": 0.0}}).apply(before).call
    assert CHAT.rewrite(ASK, before, after) == ASK | {"options": {"temperature": 0.0}}


def test_images_are_parts_of_the_message_and_editing_the_text_keeps_them() -> None:
    message = {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo=", "/9j/4AAQ"]}
    body = ASK | {"messages": [message]}
    before = CHAT.call(body, "a")
    urls = [part["image_url"]["url"][:22] for part in before.messages[0]["content"][1:]]
    assert urls == ["data:image/png;base64,", "data:image/jpeg;base64"]
    policy = Policy().with_prompt(PromptSite("p", "a", "prefix", "What is it?"), "Describe it.")
    new = CHAT.rewrite(body, before, policy.apply(before).call)
    assert new == ASK | {"messages": [message | {"content": "Describe it."}]}


def test_a_tools_result_keeps_the_tools_name() -> None:
    result = {"role": "tool", "tool_name": "look", "content": "found"}
    body = ASK | {"messages": [result]}
    before = CHAT.call(body, "a")
    assert before.messages == [{"role": "tool", "tool_call_id": "", "name": "look", "content": "found"}]
    after = msgspec.structs.replace(before, messages=[{**before.messages[0], "content": "lost"}])
    assert CHAT.rewrite(body, before, after)["messages"] == [result | {"content": "lost"}]


def test_a_prompt_takes_instructions_and_examples() -> None:
    body = {"model": "m", "prompt": "3 + 3?", "images": ["AAAA"], "context": [1]}
    before = GENERATE.call(body, "a")
    policy = (
        Policy().with_prompt(PromptSite("s", "a", "system", ""), "Be brief.").with_demos("a", [Demo("1 + 1?", "2")])
    )
    assert GENERATE.rewrite(body, before, policy.apply(before).call) == body | {
        "system": "Be brief.",
        "prompt": "User: 1 + 1?\n\nAssistant: 2\n\n3 + 3?",
    }


def test_taking_the_instructions_out_takes_the_field_out() -> None:
    body = {"model": "m", "system": "Be brief.", "prompt": "Hi"}
    before = GENERATE.call(body, "a")
    assert GENERATE.rewrite(body, before, msgspec.structs.replace(before, messages=before.messages[1:])) == {
        "model": "m",
        "prompt": "Hi",
    }


def test_loading_a_model_is_a_call_without_messages() -> None:
    loaded = {"model": "m", "message": {"role": "assistant", "content": ""}, "done_reason": "load", "done": True}
    assert CHAT.call({"model": "m", "messages": []}, "a") == Call("a", "m", [], stream=True)
    assert CHAT.reply(loaded).finish_reason == "load"
