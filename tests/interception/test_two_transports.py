"""A call that leaves through one library on top of another is one call."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import httpx
import openai
import pytest
import requests
from tests.interception.rollout import HEADERS, QUESTION, STREAMED, post, rollout
from tests.servers import FakeOpenAI

from agentlightning.interception.scope import current_scope


class AiohttpBody(httpx.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def __aiter__(self) -> Any:
        async for chunk in self.response.content.iter_chunked(1024):
            yield chunk

    async def aclose(self) -> None:
        await self.response.__aexit__(None, None, None)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """httpx over aiohttp, the way litellm sends."""

    def __init__(self) -> None:
        self.session = aiohttp.ClientSession(auto_decompress=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        options = {"data": await request.aread(), "headers": dict(request.headers)}
        response = await self.session.request(request.method, str(request.url), **options).__aenter__()
        return httpx.Response(response.status, headers=list(response.headers.items()), stream=AiohttpBody(response))

    async def aclose(self) -> None:
        await self.session.close()


class RequestsTransport(httpx.AsyncBaseTransport):
    """httpx over requests, in a thread of an executor."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        def send() -> httpx.Response:
            found.append(current_scope())
            response = requests.request(
                request.method, str(request.url), data=request.content, headers=dict(request.headers), timeout=5
            )
            return httpx.Response(response.status_code, json=response.json())

        found: list[Any] = []
        response = await asyncio.get_running_loop().run_in_executor(None, send)
        assert found == [None]
        return response


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("body", [QUESTION, STREAMED])
def test_httpx_over_aiohttp_is_recorded_once(body: dict[str, Any], gzip: bool) -> None:
    async def main(url: str) -> bytes:
        async with (
            httpx.AsyncClient(transport=AiohttpTransport()) as client,
            client.stream("POST", url, json=body, headers=HEADERS) as response,
        ):
            return b"".join([chunk async for chunk in response.aiter_bytes()])

    with FakeOpenAI("one two three", gzip=gzip) as server, rollout() as recorder:
        answer = asyncio.run(main(server.base_url + "/chat/completions"))
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two three" and step.reply.usage is not None
    assert b'"choices": []' not in answer and b'"choices":[]' not in answer


def test_httpx_over_requests_in_a_thread_is_recorded_once() -> None:
    async def main(url: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=RequestsTransport()) as client:
            return await client.post(url, json=QUESTION, headers=HEADERS)

    with FakeOpenAI("hey") as server, rollout() as recorder:
        assert asyncio.run(main(server.base_url + "/chat/completions")).status_code == 200
    assert [step.reply.text for step in recorder.steps() if step.reply] == ["hey"]


def test_the_openai_sdk_over_aiohttp_is_recorded_once() -> None:
    """Its own httpx2 client sends through a legacy httpx client here."""

    async def main(base_url: str) -> str:
        inner = httpx.AsyncClient(transport=AiohttpTransport())
        async with openai.AsyncOpenAI(base_url=base_url, api_key="k", http_client=inner) as client:  # type: ignore[arg-type]
            stream = await client.chat.completions.create(**STREAMED)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    with FakeOpenAI("one two three") as server, rollout() as recorder:
        assert asyncio.run(main(server.base_url)) == "one two three"
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two three" and not step.is_partial


def test_a_transport_that_fails_over_to_another_server_is_one_call() -> None:
    with FakeOpenAI("first") as first, FakeOpenAI("second") as second:

        class FailOver(httpx.BaseTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                replies = [post("httpx", server.url + request.url.path, QUESTION) for server in (first, second)]
                return httpx.Response(200, content=replies[-1].body)

        with rollout() as recorder, httpx.Client(transport=FailOver()) as client:
            client.post("http://nowhere/v1/chat/completions", json=QUESTION)
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "second"


@pytest.mark.parametrize("library", ["httpx", "requests", "aiohttp"])
def test_our_own_clients_are_left_alone(library: str) -> None:
    class OwnClient(httpx.Client):
        agentlightning_own = True

    class OwnSession(requests.Session):
        agentlightning_own = True

    async def own_aiohttp(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            object.__setattr__(session, "agentlightning_own", True)
            async with session.post(url, json=QUESTION) as response:
                await response.read()

    with FakeOpenAI() as server, rollout() as recorder:
        url = server.base_url + "/chat/completions"
        if library == "httpx":
            with OwnClient() as client:
                client.post(url, json=QUESTION)
        elif library == "requests":
            with OwnSession() as session:
                session.post(url, json=QUESTION)
        else:
            asyncio.run(own_aiohttp(url))
    assert recorder.steps() == [] and len(server.requests) == 1
