"""aiohttp: `ClientSession._request`, the one coroutine all its verbs call; the async openai SDK 0.28 leaves here.

The response's `content` reader is replaced by one that shows us what passes, however the caller reads it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Generic, TypeVar

import wrapt

from agentlightning.interception.exchange import Exchange
from agentlightning.interception.scope import entered
from agentlightning.interception.seam import answered_async, begin, deliver_async, is_watched
from agentlightning.interception.transports.aiohttp_memory import session_of
from agentlightning.interception.transports.loops import twin_of

Item = TypeVar("Item")


class _Reads(AsyncIterator[Item], Generic[Item]):
    """Iterates by reading until nothing comes. No generator, so that leaving it early leaves nothing open."""

    def __init__(self, read: Callable[[], Awaitable[Item]], end: Item) -> None:
        self._read, self._end = read, end

    async def __anext__(self) -> Item:
        item = await self._read()
        if item == self._end:
            raise StopAsyncIteration
        return item


class _Tee(wrapt.ObjectProxy):
    """A StreamReader that shows us what is read from it; what it does not define is the real reader's."""

    def __init__(self, reader: Any, exchange: Exchange) -> None:
        super().__init__(reader)
        self._self_exchange = exchange
        self._self_buffer = bytearray()

    async def _fill(self) -> bool:
        """Pull one more piece into the buffer; False at the end."""
        try:
            chunk: bytes = await self.__wrapped__.readany()
        except asyncio.CancelledError:
            raise  # of one read, by a caller who may well read on
        except BaseException as error:
            self._self_exchange.fail(error)
            raise
        return self._keep(chunk)

    def _keep(self, chunk: bytes) -> bool:
        if chunk:
            self._self_buffer += self._self_exchange.feed(chunk)
        if not chunk or self.__wrapped__.at_eof():
            self._self_buffer += self._self_exchange.end()
        return bool(chunk)

    def _take(self, size: int) -> bytes:
        data = bytes(self._self_buffer[:size])
        del self._self_buffer[:size]
        return data

    def _take_all(self) -> bytes:
        return self._take(len(self._self_buffer))

    def put_back(self, data: bytes) -> None:
        self._self_buffer[:0] = data

    async def readany(self) -> bytes:
        while not self._self_buffer and await self._fill():
            pass
        return self._take_all()

    async def read(self, n: int = -1) -> bytes:
        if n >= 0:
            while n and not self._self_buffer and await self._fill():
                pass
            return self._take(n)
        while await self._fill():
            pass
        return self._take_all()

    async def readexactly(self, n: int) -> bytes:
        while len(self._self_buffer) < n and await self._fill():
            pass
        if len(self._self_buffer) < n:
            raise asyncio.IncompleteReadError(self._take(n), n)
        return self._take(n)

    async def readuntil(self, separator: bytes = b"\n", **_limits: Any) -> bytes:
        while separator not in self._self_buffer and await self._fill():
            pass
        found = self._self_buffer.find(separator)
        return self._take(found + len(separator)) if found >= 0 else self._take_all()

    async def readline(self, **_limits: Any) -> bytes:
        return await self.readuntil()

    async def readchunk(self) -> tuple[bytes, bool]:
        data = await self.readany()
        return data, bool(data)

    def read_nowait(self, n: int = -1) -> bytes:
        self._keep(self.__wrapped__.read_nowait())
        return self._take(n) if n >= 0 else self._take_all()

    def at_eof(self) -> bool:
        return not self._self_buffer and self.__wrapped__.at_eof()

    def iter_any(self) -> AsyncIterator[bytes]:
        return _Reads(self.readany, b"")

    def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        return _Reads(lambda: self.read(n), b"")

    def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        return _Reads(self.readchunk, (b"", False))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Reads(self.readline, b"")

    def set_exception(self, *args: Any, **kwargs: Any) -> None:
        """How a response that is closed or released tells its reader."""
        self._self_exchange.end(is_partial=True)
        self.__wrapped__.set_exception(*args, **kwargs)


def patch(library: Any) -> None:
    """Class-level, so sessions that exist already are covered too."""
    original = library.ClientSession._request

    async def from_here(session: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        """The request, from a session that was made for it alone."""
        try:
            return await original(session, method, str_or_url, **options)
        finally:
            session._connector = None  # or it would complain, when it is collected, that nobody closed it

    @wraps(original)
    async def request(self: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        if not is_watched(self):
            return await original(self, method, str_or_url, **options)
        session = twin_of(library, self)
        send = original if session is self else from_here
        exchange = _begin(self, method, str_or_url, options)
        if exchange is None:
            return await send(session, method, str_or_url, **options)

        if (answer := await answered_async(exchange)) is not None:
            with entered(None):
                return await from_here(session_of(library, self, answer), method, str_or_url, **options)

        async def attempt() -> Any:
            response = await send(session, method, str_or_url, **_options(options, exchange))
            exchange.answered(response.status, response.headers)
            return response

        response = await deliver_async(exchange, attempt, lambda refusal: refusal.read())
        if not exchange.is_recorded:
            return response
        response.content = tee = _Tee(response.content, exchange)
        if response._body is not None:  # a refusal we read; the caller may still read it in any way
            exchange.complete(response._body)
            tee.put_back(response._body)
        return response

    library.ClientSession._request = request


def _begin(session: Any, method: str, str_or_url: Any, options: dict[str, Any]) -> Exchange | None:
    url = session._build_url(str_or_url)
    if options.get("params"):
        url = url.update_query(options["params"])
    headers = {str(key).lower(): str(value) for key, value in _headers(session.headers, options.get("headers"))}
    return begin(method.upper(), url.path, url, headers, _body(session, options))


def _headers(*given: Any) -> list[tuple[Any, Any]]:
    return [pair for headers in given if headers for pair in dict(headers).items()]


def _body(session: Any, options: dict[str, Any]) -> bytes | None:
    data = options.get("data")
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if data is None and options.get("json") is not None:
        return session.json_serialize(options["json"]).encode()
    return None


def _options(options: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    if not exchange.is_changed:
        return options
    rest = {key: value for key, value in options.items() if key != "json"}
    dropped = ("content-length", "accept-encoding") if exchange.has_asked_usage else ("content-length",)
    headers = {key: value for key, value in _headers(options.get("headers")) if str(key).lower() not in dropped}
    if not any(str(key).lower() == "content-type" for key in headers):
        headers["Content-Type"] = "application/json"
    if exchange.has_asked_usage:
        headers["Accept-Encoding"] = "identity"
    return rest | {"data": exchange.body, "headers": headers}
