"""The openai SDK 2 and 3: every way of asking for a chat completion passes the same seam."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel
from starlette.responses import JSONResponse
from tests.frameworks.rollout import KEY, LOOK, MESSAGES, STEERED, only_step, rollout, text_of
from tests.frameworks.versions import require_openai
from tests.servers import FakeOpenAI, completion_of

from agentlightning.data.call import Usage
from agentlightning.errors import RolloutStopped
from agentlightning.interception.scope import Scope, entered

openai = require_openai("2", "3")

TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


class Answer(BaseModel):
    color: str


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI("one two three") as running:
        yield running


@pytest.fixture
def client(server: FakeOpenAI) -> Iterator[Any]:
    with openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=0) as opened:
        yield opened


def with_async(server: FakeOpenAI, use: Any, **options: Any) -> Any:
    async def main() -> Any:
        given = {"base_url": server.base_url, "api_key": KEY, "max_retries": 0} | options
        async with openai.AsyncOpenAI(**given) as client:
            return await use(client)

    return asyncio.run(main())


def asked(**options: Any) -> dict[str, Any]:
    return {"model": "m-1", "messages": MESSAGES, **options}


# ── plain ──


def test_create(client: Any) -> None:
    with rollout() as recorder:
        answer = client.chat.completions.create(**asked(temperature=0.5))
    step = only_step(recorder)
    assert answer.choices[0].message.content == text_of(step) == "one two three"
    assert step.call is not None and step.call.params == {"temperature": 0.5} and step.call.messages == MESSAGES
    assert step.reply is not None and step.reply.usage == Usage(input_tokens=3, output_tokens=3)


def test_create_async(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        answer = with_async(server, lambda client: client.chat.completions.create(**asked()))
    assert answer.choices[0].message.content == text_of(only_step(recorder))


def test_tool_calls(client: Any, server: FakeOpenAI) -> None:
    server.next_reply({"tool_calls": [LOOK]})
    with rollout() as recorder:
        answer = client.chat.completions.create(**asked(tools=TOOLS))
        again = [*MESSAGES, answer.choices[0].message, {"role": "tool", "tool_call_id": "c1", "content": "17"}]
        client.chat.completions.create(model="m-1", messages=again, tools=TOOLS)
    first, second = recorder.steps()
    assert first.reply is not None and first.reply.message["tool_calls"] == [LOOK]
    assert first.call is not None and first.call.tools == TOOLS
    assert second.call is not None and [entry["role"] for entry in second.call.messages[2:]] == ["assistant", "tool"]


def test_several_choices(client: Any, server: FakeOpenAI) -> None:
    body = completion_of("first", {})
    other = body["choices"][0] | {"index": 1, "message": {"role": "assistant", "content": "second"}}
    server.reply(body | {"choices": [*body["choices"], other]})
    with rollout() as recorder:
        assert len(client.chat.completions.create(**asked(n=2)).choices) == 2
        chunks = list(client.chat.completions.create(**asked(n=2, stream=True)))
    assert {chunk.choices[0].index for chunk in chunks} == {0, 1}
    assert [text_of(step) for step in recorder.steps()] == ["first", "first"]


def test_parse(client: Any, server: FakeOpenAI) -> None:
    server.next_reply('{"color": "blue"}')
    with rollout() as recorder:
        answer = client.chat.completions.parse(**asked(response_format=Answer))
    step = only_step(recorder)
    assert answer.choices[0].message.parsed == Answer(color="blue") and text_of(step) == '{"color": "blue"}'
    assert step.call is not None and step.call.params["response_format"]["type"] == "json_schema"


def test_parse_async(server: FakeOpenAI) -> None:
    server.next_reply('{"color": "blue"}')
    with rollout() as recorder:
        answer = with_async(server, lambda client: client.chat.completions.parse(**asked(response_format=Answer)))
    assert answer.choices[0].message.parsed == Answer(color="blue") and text_of(only_step(recorder))


def test_raw_response(client: Any) -> None:
    with rollout() as recorder:
        raw = client.chat.completions.with_raw_response.create(**asked())
    assert raw.parse().choices[0].message.content == text_of(only_step(recorder)) == "one two three"
    assert raw.headers["content-type"] == "application/json"


def test_streaming_response(client: Any) -> None:
    with rollout() as recorder, client.chat.completions.with_streaming_response.create(**asked()) as response:
        body = b"".join(response.iter_bytes())
    assert b"one two three" in body and text_of(only_step(recorder)) == "one two three"


def test_raw_response_async(server: FakeOpenAI) -> None:
    async def use(client: Any) -> Any:
        raw = await client.chat.completions.with_raw_response.create(**asked())
        async with client.chat.completions.with_streaming_response.create(**asked()) as response:
            return raw.parse(), await response.parse()

    with rollout() as recorder:
        answers = with_async(server, use)
    assert {answer.choices[0].message.content for answer in answers} == {"one two three"}
    assert [text_of(step) for step in recorder.steps()] == ["one two three"] * 2


def test_a_compressed_stream_nobody_edits_is_whole(client: Any, server: FakeOpenAI) -> None:
    server.gzip = True
    with rollout() as recorder:
        list(client.chat.completions.create(**asked(stream=True, stream_options={"include_usage": True})))
    assert text_of(only_step(recorder)) == "one two three" and not only_step(recorder).is_partial


def test_compressed(client: Any, server: FakeOpenAI) -> None:
    server.gzip = True
    with rollout() as recorder:
        client.chat.completions.create(**asked())
        text = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked(stream=True)))
        with client.chat.completions.with_streaming_response.create(**asked()) as response:
            response.read()
    assert text == "one two three"
    assert [text_of(step) for step in recorder.steps()] == ["one two three"] * 3
    assert all(step.reply and step.reply.usage for step in recorder.steps())


# ── streams ──


def test_a_naive_stream_loop_sees_no_event_without_choices(client: Any) -> None:
    with rollout() as recorder:
        text = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked(stream=True)))
    step = only_step(recorder)
    assert text == text_of(step) == "one two three" and not step.is_partial
    assert step.reply is not None and step.reply.usage == Usage(input_tokens=3, output_tokens=3)


def test_a_naive_stream_loop_async(server: FakeOpenAI) -> None:
    async def use(client: Any) -> str:
        stream = await client.chat.completions.create(**asked(stream=True))
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with rollout() as recorder:
        assert with_async(server, use) == text_of(only_step(recorder)) == "one two three"
    assert not only_step(recorder).is_partial


def test_streamed_tool_calls(client: Any, server: FakeOpenAI) -> None:
    server.reply({"tool_calls": [LOOK, LOOK | {"id": "c2"}]})
    with rollout() as recorder:
        list(client.chat.completions.create(**asked(stream=True, tools=TOOLS)))
    step = only_step(recorder)
    assert step.reply is not None and step.reply.message["tool_calls"] == [LOOK, LOOK | {"id": "c2"}]
    assert step.reply.finish_reason == "tool_calls"


def test_an_agents_own_usage_event_is_kept(client: Any) -> None:
    with rollout() as recorder:
        chunks = list(client.chat.completions.create(**asked(stream=True, stream_options={"include_usage": True})))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 3
    step = only_step(recorder)
    assert step.reply is not None and step.reply.usage is not None


def test_an_endpoint_that_does_not_know_stream_options(client: Any, server: FakeOpenAI) -> None:
    def strict(body: Any) -> Any:
        if "stream_options" in body:
            return JSONResponse({"error": {"message": "Unrecognized request argument: stream_options"}}, 400)
        return "fine"

    server.reply(strict)
    with rollout() as recorder:
        text = "".join(c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked(stream=True)))
    assert text == text_of(only_step(recorder)) == "fine"


def test_the_stream_helper(client: Any) -> None:
    with rollout() as recorder, client.chat.completions.stream(**asked()) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds and final.choices[0].message.content == text_of(only_step(recorder))


def test_the_stream_helper_async(server: FakeOpenAI) -> None:
    server.next_reply('{"color": "blue"}')

    async def use(client: Any) -> Any:
        async with client.chat.completions.stream(**asked(response_format=Answer)) as stream:
            return await stream.get_final_completion()

    with rollout() as recorder:
        final = with_async(server, use)
    assert final.choices[0].message.parsed == Answer(color="blue") and text_of(only_step(recorder))


def test_a_stream_left_early(client: Any, server: FakeOpenAI) -> None:
    server.chunk_delay_seconds = 0.02
    with rollout() as recorder, client.chat.completions.create(**asked(stream=True)) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    step = only_step(recorder)
    assert step.is_partial and step.error is None and text_of(step) == "one t"


def test_a_stream_left_early_async(server: FakeOpenAI) -> None:
    server.chunk_delay_seconds = 0.02

    async def use(client: Any) -> None:
        stream = await client.chat.completions.create(**asked(stream=True))
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()

    with rollout() as recorder:
        with_async(server, use)
    step = only_step(recorder)
    assert step.is_partial and text_of(step) == "one t"


# ── refusals and failures ──


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "BadRequestError"), (401, "AuthenticationError"), (500, "InternalServerError")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(client: Any, server: FakeOpenAI, status: int, kind: str, stream: bool) -> None:
    server.next_status(status)
    with rollout() as recorder, pytest.raises(getattr(openai, kind), match=f"scripted {status}"):
        client.chat.completions.create(**asked(stream=stream))
    step = only_step(recorder)
    assert (step.status, step.error, step.reply) == (status, f"HTTP {status}: scripted {status}", None)


def test_retries_are_steps_that_can_be_told_apart(client: Any, server: FakeOpenAI) -> None:
    server.next_status(429, headers={"Retry-After": "0.001"}, times=2)
    with rollout() as recorder:
        client.with_options(max_retries=2).chat.completions.create(**asked())
    assert [(step.status, step.retry) for step in recorder.steps()] == [(429, 0), (429, 1), (200, 2)]


def test_retries_async(server: FakeOpenAI) -> None:
    server.next_status(429, headers={"Retry-After": "0.001"})
    with rollout() as recorder:
        with_async(server, lambda client: client.chat.completions.create(**asked(stream=True)), max_retries=2)
    assert [(step.status, step.retry) for step in recorder.steps()] == [(429, 0), (200, 1)]


def test_nobody_listening(client: Any) -> None:
    with rollout() as recorder, pytest.raises(openai.APIConnectionError):
        client.with_options(base_url="http://127.0.0.1:9/v1").chat.completions.create(**asked())
    step = only_step(recorder)
    assert step.status is None and step.error is not None and step.error.startswith("ConnectError")


def test_a_time_out(client: Any, server: FakeOpenAI) -> None:
    server.hang(5)
    with rollout() as recorder, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=openai.Timeout(5, read=0.05)).chat.completions.create(**asked())
    step = only_step(recorder)
    assert step.error is not None and step.error.startswith("ReadTimeout")


@pytest.mark.parametrize("midway", [False, True])
def test_a_dropped_connection(client: Any, server: FakeOpenAI, midway: bool) -> None:
    server.drop(midway=midway)
    with rollout() as recorder, pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**asked())
    assert only_step(recorder).error


def test_garbage(client: Any, server: FakeOpenAI) -> None:
    server.garbage()
    with rollout() as recorder:
        assert "html" in str(client.chat.completions.create(**asked()))
    assert "cannot be read" in (only_step(recorder).error or "")


def test_the_sdk_does_not_swallow_or_retry_a_stopped_call(server: FakeOpenAI) -> None:
    scope = Scope("helper")
    scope.close()

    def use(create: Any) -> str:
        try:
            create()
        except Exception:
            return "swallowed"
        except RolloutStopped:
            return "stopped"
        return "sent"

    async def use_async(client: Any) -> str:
        try:
            await client.chat.completions.create(**asked(stream=True))
        except Exception:
            return "swallowed"
        except RolloutStopped:
            return "stopped"
        return "sent"

    with entered(scope), openai.OpenAI(base_url=server.base_url, api_key=KEY, max_retries=5) as client:
        assert use(lambda: client.chat.completions.create(**asked())) == "stopped"
        assert with_async(server, use_async, max_retries=5) == "stopped"
    assert scope.num_late_calls == 2 and server.requests == []


# ── elsewhere ──


def test_other_endpoints_are_left_alone(client: Any, server: FakeOpenAI) -> None:
    with rollout() as recorder:
        client.embeddings.create(model="e", input="x")
        client.models.list()
    assert recorder.steps() == [] and len(server.requests) == 2


def test_a_policy_steers_every_way(client: Any, server: FakeOpenAI) -> None:
    with rollout(STEERED) as recorder:
        client.chat.completions.create(**asked())
        list(client.chat.completions.create(**asked(stream=True)))
        client.chat.completions.with_raw_response.create(**asked())
        with_async(server, lambda opened: opened.chat.completions.create(**asked()))
    assert [seen.json["messages"][0]["content"] for seen in server.requests] == ["Be brief."] * 4
    assert [step.steered_sites for step in recorder.steps()] == [["s1"]] * 4


def test_azure(server: FakeOpenAI) -> None:
    server.route("/openai/deployments/mine/chat/completions", completion_of("from azure", {}))
    key = "azure0key0of0thirty0two0letters0"
    with (
        openai.AzureOpenAI(
            azure_endpoint=server.url, api_key=key, api_version="2024-10-21", azure_deployment="mine"
        ) as client,
        rollout() as recorder,
    ):
        client.chat.completions.create(**asked())
    step = only_step(recorder)
    [seen] = server.requests
    assert seen.query == "api-version=2024-10-21" and seen.headers["api-key"] == key
    assert step.endpoint == f"{server.url}/openai/deployments/mine/chat/completions" and text_of(step) == "from azure"
    assert key not in msgspec.json.encode(step).decode()


def test_a_client_shared_by_threads(client: Any, server: FakeOpenAI) -> None:
    server.reply(lambda body: body["messages"][0]["content"])

    def ask(number: int) -> None:
        messages = [{"role": "user", "content": str(number)}]
        client.chat.completions.create(model="m", messages=messages)

    with rollout() as recorder:
        threads = [threading.Thread(target=ask, args=[number]) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(text_of(step) for step in recorder.steps()) == ["0", "1", "2", "3"]


def test_no_key_is_kept(client: Any, server: FakeOpenAI) -> None:
    server.next_status(401, body={"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with rollout() as recorder:
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(**asked())
        client.chat.completions.create(**asked())
    assert KEY not in msgspec.json.encode(recorder.steps()).decode()
