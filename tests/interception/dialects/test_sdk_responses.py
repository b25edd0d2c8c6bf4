"""What we write in the Responses format, as the OpenAI SDK reads it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.interception.dialects.serving import ARGUMENTS, CALLED, CUT, DECLINED, JSON, SAID, TEXT, THOUGHT, answering
from tests.interception.dialects.test_sdk_chat import Weather, client

from agentlightning.data.call import Reply

ASK: Any = {"model": "m", "input": "Weather?", "instructions": "Be brief."}
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": False}]


def test_text() -> None:
    with answering(SAID) as server, client(server) as sdk:
        answer = sdk.responses.create(**ASK, temperature=0.2, tools=TOOLS)
    assert (answer.id, answer.object, answer.status, answer.model) == ("r1", "response", "completed", "m")
    assert answer.output_text == TEXT and answer.instructions == "Be brief."
    assert (answer.temperature, answer.tool_choice, answer.parallel_tool_calls) == (0.2, "auto", True)
    tool: Any = answer.tools[0]
    assert (tool.type, tool.name) == ("function", "weather")
    usage = answer.usage
    assert usage is not None and (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (30, 12, 42)
    assert usage.input_tokens_details.cached_tokens == 8 and usage.output_tokens_details.reasoning_tokens == 5


def test_every_field_is_of_the_type_the_sdk_declares() -> None:
    for reply in (SAID, CALLED, CUT, DECLINED, THOUGHT):
        with answering(reply) as server, client(server) as sdk:
            answer = sdk.responses.create(**ASK, tools=TOOLS)
        type(answer).model_validate(answer.to_dict())


def test_tool_calls() -> None:
    with answering(CALLED) as server, client(server) as sdk:
        answer = sdk.responses.create(**ASK, tools=TOOLS)
    calls: list[Any] = [item for item in answer.output if item.type == "function_call"]
    assert [(call.call_id, call.name, call.arguments) for call in calls] == [
        ("c1", "weather", ARGUMENTS),
        ("c2", "weather", ARGUMENTS),
    ]
    assert answer.output_text == "Let me look." and len({item.id for item in answer.output}) == 3  # type: ignore[union-attr]


def test_an_answer_can_be_given_back_as_input() -> None:
    """As every agent with tools does: the output's items, then the results."""
    with answering(CALLED) as server, client(server) as sdk:
        answer = sdk.responses.create(**ASK, tools=TOOLS)
        items: Any = [{"role": "user", "content": "Weather?"}, *(item.to_dict() for item in answer.output)]
        items += [{"type": "function_call_output", "call_id": id, "output": "21"} for id in ("c1", "c2")]
        sdk.responses.create(model="m", input=items, tools=TOOLS)
    from agentlightning.interception.dialects.responses import Responses

    call = Responses().call(server.requests[-1].json, "a")
    assert [message["role"] for message in call.messages] == ["user", "assistant", "tool", "tool"]
    assert call.messages[1] == CALLED.message


def test_a_cut_answer_is_incomplete() -> None:
    with answering(CUT) as server, client(server) as sdk:
        answer = sdk.responses.create(**ASK)
        last = list(sdk.responses.create(**ASK, stream=True))[-1]
    assert answer.status == "incomplete" and answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens" and last.type == "response.incomplete"


@pytest.mark.parametrize("reply", [SAID, CALLED, DECLINED, THOUGHT, JSON])
def test_the_sdks_own_assembly_of_a_stream_is_the_whole_response(reply: Reply) -> None:
    with answering(reply) as server, client(server) as sdk:
        whole = sdk.responses.create(**ASK, tools=TOOLS)
        with sdk.responses.stream(**ASK, tools=TOOLS) as stream:
            events = list(stream)
            final = stream.get_final_response()
    assert final.output_text == whole.output_text
    assert [item.id for item in final.output] == [item.id for item in whole.output]  # type: ignore[union-attr]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert final.usage == whole.usage


def test_every_stream_event_is_of_the_type_the_sdk_declares() -> None:
    for reply in (SAID, CALLED, DECLINED, THOUGHT):
        with answering(reply) as server, client(server) as sdk:
            for event in sdk.responses.create(**ASK, tools=TOOLS, stream=True):
                type(event).model_validate(event.to_dict())


def test_text_and_arguments_come_in_pieces() -> None:
    with answering(CALLED) as server, client(server) as sdk:
        events = list(sdk.responses.create(**ASK, tools=TOOLS, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Let me look."
    pieces = [e.delta for e in events if e.type == "response.function_call_arguments.delta" and e.output_index == 1]
    assert "".join(pieces) == ARGUMENTS and len(pieces) > 1


def test_structured_output_is_parsed() -> None:
    with answering(JSON) as server, client(server) as sdk:
        answer = sdk.responses.parse(**ASK, text_format=Weather)
        with sdk.responses.stream(**ASK, text_format=Weather) as stream:
            streamed = stream.get_final_response()
    assert answer.output_parsed == streamed.output_parsed == Weather(city="Paris", degrees=21)


def test_reasoning_is_an_item_of_its_own() -> None:
    with answering(THOUGHT) as server, client(server) as sdk:
        first: Any = sdk.responses.create(**ASK).output[0]
    assert first.type == "reasoning" and first.content[0].text == "It is June, so…"


def test_an_async_stream_reads_alike() -> None:
    import asyncio

    async def read(url: str) -> str:
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as sdk:
            events = [event async for event in await sdk.responses.create(**ASK, stream=True)]
        return events[-1].response.output_text  # type: ignore[union-attr]

    with answering(SAID) as server:
        assert asyncio.run(read(server.base_url)) == TEXT
