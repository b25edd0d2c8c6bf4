"""aiohttp: `ClientSession._request`, the one coroutine all its verbs call; the async openai SDK 0.28 leaves here.

The response's `content` reader is replaced by one that shows us what passes, however the caller reads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import wraps
from typing import Any

import msgspec

from agentlightning.interception.exchange import Exchange
from agentlightning.interception.seam import begin, sending


class _Tee:
    """A StreamReader look-alike over the real one; what it does not define goes straight through."""

    def __init__(self, reader: Any, exchange: Exchange) -> None:
        self._reader, self._exchange = reader, exchange
        self._buffer = b""
        self._is_over = False

    async def _fill(self) -> bool:
        """Pull one more piece into the buffer; False at the end."""
        if self._is_over:
            return False
        try:
            chunk: bytes = await self._reader.readany()
        except BaseException as error:
            self._exchange.fail(error)
            raise
        if chunk:
            self._buffer += self._exchange.feed(chunk)
            return True
        self._is_over = True
        self._buffer += self._exchange.end()
        return bool(self._buffer)

    def _take(self, size: int) -> bytes:
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def readany(self) -> bytes:
        while not self._buffer and await self._fill():
            pass
        return self._take(len(self._buffer))

    async def read(self, n: int = -1) -> bytes:
        if n >= 0:
            while not self._buffer and n and await self._fill():
                pass
            return self._take(n)
        while await self._fill() and not self._is_over:
            pass
        return self._take(len(self._buffer))

    async def readexactly(self, n: int) -> bytes:
        while len(self._buffer) < n and await self._fill() and not self._is_over:
            pass
        if len(self._buffer) < n:
            import asyncio

            raise asyncio.IncompleteReadError(self._take(n), n)
        return self._take(n)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        while separator not in self._buffer and await self._fill() and not self._is_over:
            pass
        cut = self._buffer.find(separator)
        return self._take(cut + len(separator) if cut >= 0 else len(self._buffer))

    async def readline(self) -> bytes:
        return await self.readuntil(b"\n")

    async def readchunk(self) -> tuple[bytes, bool]:
        data = await self.readany()
        return data, bool(data)

    def at_eof(self) -> bool:
        return self._is_over and not self._buffer

    async def iter_any(self) -> AsyncIterator[bytes]:
        while data := await self.readany():
            yield data

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        while data := await self.read(n):
            yield data

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while data := await self.readany():
            yield data, True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def patch(library: Any) -> None:
    """Class-level, so sessions that exist already are covered too."""
    original = library.ClientSession._request

    @wraps(original)
    async def request(self: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        url = self._build_url(str_or_url)
        headers = {str(key).lower(): str(value) for key, value in dict(options.get("headers") or {}).items()}
        exchange = begin(method, url.path, url, headers, _body(options))
        if exchange is None:
            return await original(self, method, str_or_url, **options)
        try:
            with sending():
                response = await original(self, method, str_or_url, **_options(options, exchange))
                exchange.answered(response.status, response.headers)
                if exchange.refuses_usage(await response.read() if response.status in (400, 422) else b""):
                    exchange.forget_usage()
                    response = await original(self, method, str_or_url, **_options(options, exchange))
                    exchange.answered(response.status, response.headers)
        except BaseException as error:
            exchange.fail(error)
            raise
        if response._body is not None:
            exchange.complete(response._body)
        else:
            response.content = _Tee(response.content, exchange)
        return response

    library.ClientSession._request = request


def _body(options: dict[str, Any]) -> bytes | None:
    data = options.get("data")
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if data is None and options.get("json") is not None:
        return msgspec.json.encode(options["json"], enc_hook=str)
    return None


def _options(options: dict[str, Any], exchange: Exchange) -> dict[str, Any]:
    if not exchange.is_changed:
        return options
    rest = {key: value for key, value in options.items() if key != "json"}
    headers = {
        key: value for key, value in dict(options.get("headers") or {}).items() if key.lower() != "content-length"
    }
    if not any(key.lower() == "content-type" for key in headers):
        headers["Content-Type"] = "application/json"
    if exchange.has_asked_usage:
        headers["Accept-Encoding"] = "identity"
    return rest | {"data": exchange.body, "headers": headers}
