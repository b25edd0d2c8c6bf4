"""A rollout to test in, and one way to post through every transport."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import httpx2
import requests

from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install

install()

TRANSPORTS = ("httpx", "httpx async", "httpx2", "httpx2 async", "requests", "aiohttp")
QUESTION = {"model": "m-1", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]}
STREAMED = {**QUESTION, "stream": True}
KEY = "sk-secret-4f9a7b2c6d8e"
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


@contextmanager
def rollout(agent: str = "helper", *, recorder: Recorder | None = None, **options: Any) -> Iterator[Recorder]:
    """Run a block as a rollout of `agent`; its scope is closed at the end."""
    recorder = recorder or Recorder()
    scope = Scope(agent, recorder=recorder, **options)
    with entered(scope):
        yield recorder
    scope.close()


@dataclass
class Answer:
    """What came back, as the caller saw it."""

    status: int
    headers: dict[str, str]
    body: bytes


def post(
    transport: str,
    url: str,
    json: Any = None,
    *,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
    stream: bool = False,
    max_pieces: int | None = None,
    method: str = "POST",
) -> Answer:
    """Send one request. `stream`: read it piece by piece, at most `max_pieces` of them."""
    options = {"headers": HEADERS if headers is None else headers}
    options |= {"json": json} if content is None and json is not None else {}
    if transport == "aiohttp":
        options |= {"data": content} if content is not None else {}
        return asyncio.run(_aiohttp(method, url, options, stream, max_pieces))
    if transport == "requests":
        options |= {"data": content} if content is not None else {}
        return _requests(method, url, options, stream, max_pieces)
    options |= {"content": content} if content is not None else {}
    library: Any = httpx2 if "httpx2" in transport else httpx
    if "async" in transport:
        return asyncio.run(_httpx_async(library, method, url, options, stream, max_pieces))
    return _httpx(library, method, url, options, stream, max_pieces)


def _httpx(library: Any, method: str, url: str, options: Any, stream: bool, max_pieces: int | None) -> Answer:
    with library.Client(verify=False) as client:
        if not stream:
            response = client.request(method, url, **options)
            return Answer(response.status_code, dict(response.headers), response.content)
        with client.stream(method, url, **options) as response:
            pieces = response.iter_bytes()
            body = b"".join(pieces if max_pieces is None else [next(pieces) for _ in range(max_pieces)])
            return Answer(response.status_code, dict(response.headers), body)


async def _httpx_async(
    library: Any, method: str, url: str, options: Any, stream: bool, max_pieces: int | None
) -> Answer:
    async with library.AsyncClient(verify=False) as client:
        if not stream:
            response = await client.request(method, url, **options)
            return Answer(response.status_code, dict(response.headers), response.content)
        async with client.stream(method, url, **options) as response:
            pieces, body = response.aiter_bytes(), b""
            async for piece in _at_most(pieces, max_pieces):
                body += piece
            return Answer(response.status_code, dict(response.headers), body)


def _requests(method: str, url: str, options: Any, stream: bool, max_pieces: int | None) -> Answer:
    with requests.Session() as session:
        response = session.request(method, url, stream=stream, **options)
        if not stream:
            return Answer(response.status_code, dict(response.headers), response.content)
        with response:
            pieces = response.iter_content(None)
            body = b"".join(pieces if max_pieces is None else [next(pieces) for _ in range(max_pieces)])
            return Answer(response.status_code, dict(response.headers), body)


async def _aiohttp(method: str, url: str, options: Any, stream: bool, max_pieces: int | None) -> Answer:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as response:
        if not stream:
            return Answer(response.status, dict(response.headers), await response.read())
        body = b""
        async for piece in _at_most(response.content.iter_any(), max_pieces):
            body += piece
        return Answer(response.status, dict(response.headers), body)


async def _at_most(pieces: Any, limit: int | None) -> Any:
    count = 0
    async for piece in pieces:
        yield piece
        count += 1
        if count == limit:
            return
