"""One request, on its way through: sent by a client of ours in the caller's scope, where interception does the rest.

So steering, recording, budgets and our own answers are exactly those of an agent in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, TypeVar

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from agentlightning.errors import ModelError
from agentlightning.gateway.providers import CREDENTIALS, Provider
from agentlightning.gateway.served import AGENT_HEADER
from agentlightning.interception.scope import Scope, entered

T = TypeVar("T")

_HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization te trailer transfer-encoding upgrade host expect "
    "content-length content-encoding accept-encoding".split()
)
_NOT_SENT = _HOP_BY_HOP | set(CREDENTIALS) | {"cookie", AGENT_HEADER}
_STREAMS = ("event-stream", "ndjson")
_TIMEOUT = httpx.Timeout(600, connect=10)


class Disconnected(Exception):
    """Whoever asked does not wait for the answer any more."""


class _Nobody(httpx.AsyncBaseTransport):
    """Stands where a provider would, when there is none."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise ModelError(f"{request.url.path} is not answered here, and no provider is known to send it on to")


def make_client(*, reaches_out: bool = True) -> httpx.AsyncClient:
    """What requests are sent with. It keeps no cookies from one caller for another."""
    transport = None if reaches_out else _Nobody()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    client = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, transport=transport, follow_redirects=False)
    client.headers.clear()
    return client


async def forwarded(
    request: Request, client: httpx.AsyncClient, scope: Scope, agent: str | None, url: str, key: Mapping[str, str]
) -> Response:
    """The answer to a request, from the scope's responder or from `url`. Raises what sending raises."""
    headers = [(name, value) for name, value in request.headers.items() if name not in _NOT_SENT]
    content = await request.body()
    outgoing = client.build_request(request.method, url, headers=[*headers, *key.items()], content=content)

    async def send() -> httpx.Response:
        with entered(scope, agent):
            return await client.send(outgoing, stream=True)

    response = await _while_connected(request, send())
    return await _given_back(response)


def target(provider: Provider | None, path: str, query: str) -> tuple[str, dict[str, str]]:
    """Where a request goes, and the key for it. Without a provider: an address that is never called."""
    if provider is None:
        return f"http://nobody.invalid{path}", {}
    return provider.url(path, query), provider.headers


async def _given_back(response: httpx.Response) -> Response:
    headers = {name: value for name, value in response.headers.items() if name not in _HOP_BY_HOP}
    headers.pop("set-cookie", None)
    kind = response.headers.get("content-type", "")
    if any(stream in kind for stream in _STREAMS):
        return StreamingResponse(_pieces(response), response.status_code, headers)
    try:
        content = await response.aread()
    finally:
        await response.aclose()
    return Response(content, response.status_code, headers)


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_bytes():
            yield piece
    finally:
        await response.aclose()


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is given up when the caller hangs up: then nobody pays for it any longer."""
    task = asyncio.ensure_future(work)
    gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())  # after a whole body comes only the hang-up
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        gone.cancel()
        task.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
