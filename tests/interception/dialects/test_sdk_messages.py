"""What we write in the Messages format, as Anthropic's SDK reads it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from tests.interception.dialects.serving import ARGUMENTS, CALLED, CUT, DECLINED, JSON, SAID, TEXT, THOUGHT, answering
from tests.interception.dialects.test_sdk_chat import Weather

from agentlightning.data.call import Reply
from agentlightning.interception.dialects.messages import Messages

ASK: Any = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Weather?"}]}
TOOLS: Any = [{"name": "weather", "input_schema": {"type": "object"}}]


def client(server: Any) -> Any:
    return anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0)


def test_text() -> None:
    with answering(SAID) as server, client(server) as sdk:
        answer = sdk.messages.create(**ASK)
    assert (answer.id, answer.type, answer.role, answer.model) == ("r1", "message", "assistant", "m")
    assert [(block.type, block.text) for block in answer.content] == [("text", TEXT)]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    usage = answer.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (22, 8, 12)


def test_every_field_is_of_the_type_the_sdk_declares() -> None:
    for reply in (SAID, CALLED, CUT, DECLINED, THOUGHT):
        with answering(reply) as server, client(server) as sdk:
            answer = sdk.messages.create(**ASK, tools=TOOLS)
        type(answer).model_validate(answer.to_dict())


def test_tool_calls_and_their_way_back() -> None:
    with answering(CALLED) as server, client(server) as sdk:
        answer = sdk.messages.create(**ASK, tools=TOOLS)
        results = [{"type": "tool_result", "tool_use_id": id, "content": "21"} for id in ("c1", "c2")]
        history = [
            *ASK["messages"],
            {"role": "assistant", "content": answer.content},
            {"role": "user", "content": results},
        ]
        sdk.messages.create(**ASK | {"messages": history})
    assert [block.type for block in answer.content] == ["text", "tool_use", "tool_use"]
    assert answer.content[1].input == json.loads(ARGUMENTS) and answer.stop_reason == "tool_use"
    call = Messages().call(server.requests[-1].json, "a")
    assert [message["role"] for message in call.messages] == ["user", "assistant", "tool", "tool"]
    assert call.messages[1] == CALLED.message


@pytest.mark.parametrize("reply", [SAID, CALLED, CUT, DECLINED, THOUGHT])
def test_the_sdks_own_assembly_of_a_stream_is_the_whole_message(reply: Reply) -> None:
    with answering(reply) as server, client(server) as sdk:
        whole = sdk.messages.create(**ASK)
        with sdk.messages.stream(**ASK) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert final.model_dump(exclude_none=True) == whole.model_dump(exclude_none=True)
    assert text == "".join(block.text for block in whole.content if block.type == "text")


def test_the_raw_events_come_in_the_vendors_order() -> None:
    with answering(THOUGHT) as server, client(server) as sdk:
        events = list(sdk.messages.create(**ASK, stream=True))
    block = ["content_block_start", *["content_block_delta"] * 2, "content_block_stop"]
    assert [event.type for event in events] == [
        "message_start", *block, "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    assert events[0].message.usage.input_tokens == 22 and events[-2].usage.output_tokens == 12
    for event in events:
        type(event).model_validate(event.to_dict())


def test_structured_output_is_parsed() -> None:
    with answering(JSON) as server, client(server) as sdk:
        answer = sdk.messages.parse(**ASK, output_format=Weather)
    assert answer.parsed_output == Weather(city="Paris", degrees=21)


def test_a_cut_answer_and_a_declined_one_say_why() -> None:
    for reply, reason in ((CUT, "max_tokens"), (Reply(DECLINED.message, "content_filter"), "refusal")):
        with answering(reply) as server, client(server) as sdk:
            assert sdk.messages.create(**ASK).stop_reason == reason
