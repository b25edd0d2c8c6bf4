"""What SDKs make of the answers we give ourselves: the same objects, errors and retries as of their provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from tests.engines import Answering, ByteEngine, tokens_of
from tests.interception.dialects.serving import ARGUMENTS, CALLED, JSON, SAID, TEXT
from tests.interception.dialects.test_sdk_chat import Weather
from tests.interception.rollout import rollout

from agentlightning.data.call import Reply
from agentlightning.errors import ContextTooLong, ModelError

NOWHERE = "http://192.0.2.1"
USER: Any = [{"role": "user", "content": "Weather?"}]
CHAT: Any = {"model": "m", "messages": USER}
RESPONSE: Any = {"model": "m", "input": "Weather?"}
MESSAGE: Any = {"model": "m", "messages": USER, "max_tokens": 50}


def openai_client(**options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{NOWHERE}/v1", api_key="k", **options)


def anthropic_client(**options: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=NOWHERE, api_key="k", **options)


def chat(sdk: openai.OpenAI) -> str | None:
    return sdk.chat.completions.create(**CHAT).choices[0].message.content


def chat_stream(sdk: openai.OpenAI) -> str:
    chunks = sdk.chat.completions.create(**CHAT, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def chat_stream_helper(sdk: openai.OpenAI) -> str | None:
    with sdk.chat.completions.stream(**CHAT) as stream:
        return stream.get_final_completion().choices[0].message.content


def chat_raw(sdk: openai.OpenAI) -> str | None:
    return sdk.chat.completions.with_raw_response.create(**CHAT).parse().choices[0].message.content


def response(sdk: openai.OpenAI) -> str:
    return sdk.responses.create(**RESPONSE).output_text


def response_stream(sdk: openai.OpenAI) -> str:
    events = sdk.responses.create(**RESPONSE, stream=True)
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


def message(sdk: anthropic.Anthropic) -> str:
    return sdk.messages.create(**MESSAGE).content[0].text


def message_stream(sdk: anthropic.Anthropic) -> str:
    with sdk.messages.stream(**MESSAGE) as stream:
        return "".join(stream.text_stream)


WAYS = [chat, chat_stream, chat_stream_helper, chat_raw, response, response_stream, message, message_stream]


def client_for(way: Any, **options: Any) -> Any:
    return anthropic_client(**options) if "message" in way.__name__ else openai_client(**options)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_of_asking_gets_the_engines_text_and_leaves_its_ids(way: Any) -> None:
    with ByteEngine(SAID) as engine, rollout(responder=Answering(engine)) as recorder, client_for(way) as sdk:
        assert way(sdk) == TEXT
    [step] = recorder.steps()
    assert step.completion_ids == tokens_of(SAID) and step.prompt_ids is not None and step.error is None


async def a_chat(sdk: Any) -> Any:
    return (await sdk.chat.completions.create(**CHAT)).choices[0].message.content


async def a_chat_stream(sdk: Any) -> Any:
    chunks = await sdk.chat.completions.create(**CHAT, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])


async def a_response(sdk: Any) -> Any:
    return (await sdk.responses.create(**RESPONSE)).output_text


async def a_response_stream(sdk: Any) -> Any:
    events = await sdk.responses.create(**RESPONSE, stream=True)
    return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])


async def a_message(sdk: Any) -> Any:
    return (await sdk.messages.create(**MESSAGE)).content[0].text


async def a_message_stream(sdk: Any) -> Any:
    async with sdk.messages.stream(**MESSAGE) as stream:
        return "".join([text async for text in stream.text_stream])


@pytest.mark.parametrize(
    "way",
    [a_chat, a_chat_stream, a_response, a_response_stream, a_message, a_message_stream],
    ids=lambda way: way.__name__,
)
def test_async_clients_too_many_at_once(way: Any) -> None:
    async def main() -> list[Any]:
        kind = anthropic.AsyncAnthropic if "message" in way.__name__ else openai.AsyncOpenAI
        url = NOWHERE if "message" in way.__name__ else f"{NOWHERE}/v1"
        async with kind(base_url=url, api_key="k") as sdk:
            return await asyncio.gather(*(way(sdk) for _ in range(8)))

    with ByteEngine(SAID) as engine, rollout(responder=Answering(engine)) as recorder:
        assert asyncio.run(main()) == [TEXT] * 8
    assert [step.completion_ids for step in recorder.steps()] == [tokens_of(SAID)] * 8


def test_tools_are_called_and_their_results_go_back() -> None:
    def answer(call: Any) -> Reply:
        return SAID if call.messages[-1]["role"] == "tool" else CALLED

    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with ByteEngine(answer) as engine, rollout(responder=Answering(engine)) as recorder, openai_client() as sdk:
        first = sdk.chat.completions.create(**CHAT, tools=tools).choices[0].message
        results: Any = [{"role": "tool", "tool_call_id": call.id, "content": "21"} for call in first.tool_calls or ()]
        second = sdk.chat.completions.create(model="m", messages=[*USER, first, *results], tools=tools)
    assert first.tool_calls is not None and first.tool_calls[0].function.arguments == ARGUMENTS
    assert second.choices[0].message.content == TEXT
    steps = recorder.steps()
    assert steps[1].call is not None and steps[1].call.messages[1] == CALLED.message
    assert engine.calls[0].tools == tools


def test_structured_answers_are_parsed_by_the_sdk() -> None:
    with ByteEngine(JSON) as engine, rollout(responder=Answering(engine)), openai_client() as sdk:
        parsed = sdk.chat.completions.parse(**CHAT, response_format=Weather).choices[0].message.parsed
    assert parsed == Weather(city="Paris", degrees=21)
    assert "response_format" in engine.calls[0].params


@pytest.fixture(params=[openai_client, anthropic_client], ids=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param(max_retries=3) as client:
        yield client


def call(sdk: Any) -> Any:
    return chat(sdk) if isinstance(sdk, openai.OpenAI) else message(sdk)


def test_an_engine_that_fails_is_the_sdks_error_and_is_asked_once(sdk: Any) -> None:
    library = openai if isinstance(sdk, openai.OpenAI) else anthropic
    with ByteEngine() as engine, rollout(responder=Answering(engine)) as recorder:
        engine.fail(ModelError("out of memory"))
        with pytest.raises(library.InternalServerError, match="out of memory"):
            call(sdk)
        engine.fail(ContextTooLong("9000 tokens are too many"))
        with pytest.raises(library.BadRequestError, match="9000 tokens"):
            call(sdk)
    assert len(engine.calls) == 2
    assert [(step.status, step.retry) for step in recorder.steps()] == [(500, 0), (400, 0)]


def test_a_context_that_is_too_long_has_openais_code() -> None:
    with ByteEngine() as engine, rollout(responder=Answering(engine)), openai_client() as sdk:
        engine.fail(ContextTooLong("too many"))
        with pytest.raises(openai.BadRequestError) as raised:
            chat(sdk)
    assert raised.value.code == "context_length_exceeded"
