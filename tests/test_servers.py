"""The fake model server keeps its own promises, so that a red test elsewhere is about the code under test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.servers import FakeOpenAI

ASK: list[Any] = [{"role": "user", "content": "hello there"}]
TOOL_CALL = {"id": "call-1", "type": "function", "function": {"name": "look_up", "arguments": '{"order": 17}'}}


def sdk(server: FakeOpenAI, max_retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="sk-test", max_retries=max_retries)


def test_a_vendor_sdk_gets_its_answer_and_every_byte_is_kept() -> None:
    with FakeOpenAI("blue") as server, sdk(server) as client:
        answer = client.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "blue"
        assert answer.usage is not None and answer.usage.prompt_tokens == 2
        seen = server.requests[0]
        assert (seen.method, seen.path, seen.headers["authorization"]) == (
            "POST",
            "/v1/chat/completions",
            "Bearer sk-test",
        )
        assert json.loads(seen.body) == seen.json == {"model": "m", "messages": ASK}


@pytest.mark.parametrize("gzip", [False, True])
def test_a_stream_comes_in_pieces_and_adds_up(gzip: bool) -> None:
    message = {"content": "let me look", "tool_calls": [TOOL_CALL]}
    with FakeOpenAI(message, gzip=gzip) as server, sdk(server) as client:
        options: Any = {"include_usage": True}
        stream = client.chat.completions.create(model="m", messages=ASK, stream=True, stream_options=options)
        chunks = list(stream)
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    texts = [delta.content for delta in deltas if delta.content]
    arguments = [delta.tool_calls[0].function.arguments for delta in deltas if delta.tool_calls]  # type: ignore[union-attr]
    assert len(texts) > 1 and "".join(texts) == "let me look"
    assert len(arguments) > 2 and json.loads("".join(a or "" for a in arguments)) == {"order": 17}
    assert chunks[-1].usage is not None and chunks[-2].choices[0].finish_reason == "tool_calls"


def test_an_answer_can_depend_on_the_request() -> None:
    with FakeOpenAI() as server, sdk(server) as client:
        server.reply(lambda body: body["messages"][-1]["content"].upper())
        assert client.chat.completions.create(model="m", messages=ASK).choices[0].message.content == "HELLO THERE"


def test_queued_behaviour_is_used_up_in_order() -> None:
    with FakeOpenAI("fine") as server, httpx.Client(base_url=server.base_url) as client:
        server.next_status(429, headers={"Retry-After": "0"})
        server.garbage()
        server.drop()
        server.drop(midway=True)
        first = client.post("/chat/completions", json={})
        assert (first.status_code, first.headers["retry-after"]) == (429, "0")
        assert "not a model" in client.post("/chat/completions", json={}).text
        for _ in range(2):
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/chat/completions", json={})
        assert client.post("/chat/completions", json={}).json()["choices"][0]["message"]["content"] == "fine"
        assert len(server.requests) == 5


def test_a_hanging_answer_does_not_hold_up_the_end_of_the_test() -> None:
    with FakeOpenAI() as server, httpx.Client(timeout=0.05) as client:
        server.hang(60)
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{server.base_url}/chat/completions", json={})


def test_other_paths_answer_too_and_unknown_ones_are_404() -> None:
    with FakeOpenAI() as server, sdk(server) as client:
        assert client.embeddings.create(model="e", input=["abc"], encoding_format="float").data[0].embedding == [3.0]
        assert client.models.list().data[0].id == "fake"
        server.route("/v1/responses", [{"type": "response.created", "n": 1}, "data: [DONE]\n\n"])
        body = httpx.post(f"{server.base_url}/responses", json={}).text
        assert body == 'event: response.created\ndata: {"type": "response.created", "n": 1}\n\ndata: [DONE]\n\n'
        assert httpx.get(f"{server.url}/nothing").status_code == 404


def test_concurrent_requests_are_counted() -> None:
    async def ask_twice(server: FakeOpenAI) -> None:
        async with httpx.AsyncClient(base_url=server.base_url) as client:
            await asyncio.gather(*[client.post("/chat/completions", json={}) for _ in range(2)])

    with FakeOpenAI() as server:
        server.hang(0.1, times=2)
        asyncio.run(ask_twice(server))
        assert server.max_in_flight == 2


def test_an_answer_function_that_raises_fails_the_test() -> None:
    with pytest.raises(KeyError, match="absent"), FakeOpenAI(lambda body: body["absent"]) as server:
        assert httpx.post(f"{server.base_url}/chat/completions", json={}).status_code == 400
