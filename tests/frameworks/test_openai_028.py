"""The openai SDK 0.28, whose sync calls leave through requests and whose async ones leave through aiohttp."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.frameworks.rollout import KEY, MESSAGES, STEERED, only_step, rollout, text_of
from tests.frameworks.versions import require_openai
from tests.servers import FakeOpenAI, completion_of

from agentlightning.data.call import Usage
from agentlightning.errors import RolloutStopped
from agentlightning.interception.scope import Scope, entered

openai = require_openai("0.28")

LOOK: Any = {"name": "look", "arguments": '{"id": 17, "deep": "yes"}'}
TOLD: Any = [{"id": "", "type": "function", "function": LOOK}]
FUNCTIONS: Any = [{"name": "look", "parameters": {"type": "object", "properties": {}}}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    import requests

    with FakeOpenAI("one two three") as running, requests.Session() as session:
        monkeypatch.setattr(openai, "api_base", running.base_url)
        monkeypatch.setattr(openai, "api_key", KEY)
        monkeypatch.setattr(openai, "requestssession", session)
        yield running


def create(**options: Any) -> Any:
    return openai.ChatCompletion.create(model="m-1", messages=MESSAGES, **options)


async def acreate(**options: Any) -> Any:
    return await openai.ChatCompletion.acreate(model="m-1", messages=MESSAGES, **options)


async def drained(**options: Any) -> list[Any]:
    return [chunk async for chunk in await acreate(stream=True, **options)]


def joined(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.get("content") or "" for chunk in chunks)


def test_create(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        response = create(temperature=0.5)
    step = only_step(recorder)
    assert response.choices[0].message["content"] == text_of(step) == "one two three"
    assert step.call is not None and step.call.messages == MESSAGES and step.call.params == {"temperature": 0.5}
    assert step.reply is not None and step.reply.usage == Usage(input_tokens=3, output_tokens=3)
    assert step.endpoint == f"{server.base_url}/chat/completions"


def test_acreate(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        response = asyncio.run(acreate())
    assert response.choices[0].message["content"] == text_of(only_step(recorder)) == "one two three"


def test_a_naive_stream_loop(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        text = joined(create(stream=True))
    step = only_step(recorder)
    assert text == text_of(step) == "one two three" and not step.is_partial
    assert step.reply is not None and step.reply.usage == Usage(input_tokens=3, output_tokens=3)


def test_a_naive_stream_loop_async(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        text = joined(asyncio.run(drained()))
    step = only_step(recorder)
    assert text == text_of(step) == "one two three" and not step.is_partial
    assert step.reply is not None and step.reply.usage == Usage(input_tokens=3, output_tokens=3)


def test_functions(server: FakeOpenAI) -> None:
    server.next_reply({"content": None, "function_call": LOOK})
    with rollout() as recorder:
        message = create(functions=FUNCTIONS).choices[0].message
    step = only_step(recorder)
    assert message["function_call"]["name"] == "look"
    assert step.reply is not None and step.reply.message["tool_calls"] == TOLD
    assert step.call is not None and step.call.params == {"functions": FUNCTIONS}


def test_streamed_functions(server: FakeOpenAI) -> None:
    def events(_: Any) -> list[Any]:
        deltas: list[Any] = [{"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": ""}}]
        deltas += [{"function_call": {"arguments": piece}} for piece in ('{"id": 17,', ' "deep": "yes"}')]
        frame = completion_of("", {}) | {"object": "chat.completion.chunk"}
        frame.pop("usage")
        told = [frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        return [*told, "data: [DONE]\n\n"]

    server.reply(events)
    with rollout() as recorder:
        arguments = [chunk.choices[0].delta["function_call"]["arguments"] for chunk in create(stream=True)]
    step = only_step(recorder)
    assert "".join(arguments) == LOOK["arguments"]
    assert step.reply is not None and step.reply.message["tool_calls"] == TOLD


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "InvalidRequestError"), (401, "AuthenticationError"), (429, "RateLimitError"), (500, "APIError")],
)
@pytest.mark.parametrize(
    "call", [create, lambda: create(stream=True), lambda: asyncio.run(acreate()), lambda: asyncio.run(drained())]
)
def test_refusals(server: FakeOpenAI, status: int, kind: str, call: Any) -> None:
    server.next_status(status)
    with rollout() as recorder, pytest.raises(getattr(openai.error, kind), match=f"scripted {status}"):
        call()
    step = only_step(recorder)
    assert (step.status, step.error, step.reply) == (status, f"HTTP {status}: scripted {status}", None)


@pytest.mark.parametrize("call", [create, lambda: asyncio.run(acreate())])
def test_nobody_listening(server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, call: Any) -> None:
    monkeypatch.setattr(openai, "api_base", "http://127.0.0.1:9/v1")
    with rollout() as recorder, pytest.raises(openai.error.APIConnectionError):
        call()
    step = only_step(recorder)
    assert step.status is None and step.error is not None


async def acreate_in_own_session() -> Any:
    """The SDK closes its own session on an `Exception` only, and a stopped rollout is none."""
    import aiohttp

    async with aiohttp.ClientSession() as session:
        openai.aiosession.set(session)
        return await acreate()


@pytest.mark.parametrize("call", [create, lambda: asyncio.run(acreate_in_own_session())])
def test_a_stopped_call_is_not_swallowed(server: FakeOpenAI, call: Any) -> None:
    scope = Scope("helper")
    scope.close()
    with entered(scope), pytest.raises(RolloutStopped):
        call()
    assert scope.num_late_calls == 1 and server.requests == []


def test_a_stream_left_early(server: FakeOpenAI) -> None:
    server.chunk_delay_seconds = 0.02
    with rollout() as recorder:
        stream = create(stream=True)
        next(stream)
        stream.close()
    step = only_step(recorder)
    assert step.is_partial and step.error is None


def test_a_policy_steers_every_way(server: FakeOpenAI) -> None:
    with rollout(STEERED) as recorder:
        create()
        list(create(stream=True))
        asyncio.run(acreate())
        asyncio.run(drained())
    assert [seen.json["messages"][0]["content"] for seen in server.requests] == ["Be brief."] * 4
    assert [step.steered_sites for step in recorder.steps()] == [["s1"]] * 4


def test_other_endpoints_are_left_alone(server: FakeOpenAI) -> None:
    with rollout() as recorder:
        openai.Embedding.create(model="e", input="x", encoding_format="float")
    assert recorder.steps() == [] and len(server.requests) == 1


def test_no_key_is_kept(server: FakeOpenAI) -> None:
    server.next_status(
        401, body={"error": {"message": f"Incorrect API key provided: {KEY}", "type": "x", "code": None}}
    )
    with rollout() as recorder:
        with pytest.raises(openai.error.AuthenticationError):
            create()
        create(api_key=KEY)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in msgspec.json.encode(recorder.steps()).decode()


def test_the_address_may_come_from_the_environment(server: FakeOpenAI) -> None:
    program = (
        "import openai\n"
        "from tests.frameworks.rollout import MESSAGES, only_step, rollout, text_of\n"
        "with rollout() as recorder:\n"
        "    openai.ChatCompletion.create(model='m', messages=MESSAGES)\n"
        "print(text_of(only_step(recorder)))\n"
    )
    environment = os.environ | {"OPENAI_API_BASE": server.base_url, "OPENAI_API_KEY": KEY}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("one two three\n", 0), done.stderr
