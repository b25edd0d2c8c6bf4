"""httpx and httpx2: `Client.send` and `AsyncClient.send`, one patch for both, since they share their API.

A response the caller reads as a stream gets its byte stream wrapped; any other was read inside `send` already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import wraps
from typing import Any

from agentlightning.interception.exchange import Exchange
from agentlightning.interception.seam import begin, sending


def patch(library: Any) -> None:
    """Class-level, so clients that exist already are covered too."""
    _patch_sync(library)
    _patch_async(library)


def _patch_sync(library: Any) -> None:
    original = library.Client.send

    class Tee(library.SyncByteStream):
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream, self._exchange = stream, exchange

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._stream:
                    if seen := self._exchange.feed(chunk):
                        yield seen
            except GeneratorExit:
                raise
            except BaseException as error:
                self._exchange.fail(error)
                raise
            if rest := self._exchange.end():
                yield rest

        def close(self) -> None:
            self._exchange.end(is_partial=True)
            self._stream.close()

    @wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        exchange = _begin(self, request)
        if exchange is None:
            return original(self, request, **options)
        try:
            with sending():
                response = original(self, _request(library, request, exchange), **options)
                exchange.answered(response.status_code, response.headers, is_encoded=True)
                if exchange.refuses_usage(response.read() if response.status_code in (400, 422) else b""):
                    exchange.forget_usage()
                    response = original(self, _request(library, request, exchange), **options)
                    exchange.answered(response.status_code, response.headers, is_encoded=True)
        except BaseException as error:
            exchange.fail(error)
            raise
        if response.is_stream_consumed:
            exchange.answered(response.status_code, response.headers)
            exchange.complete(response.content)
        else:
            response.stream = Tee(response.stream, exchange)
        return response

    library.Client.send = send


def _patch_async(library: Any) -> None:
    original = library.AsyncClient.send

    class Tee(library.AsyncByteStream):
        def __init__(self, stream: Any, exchange: Exchange) -> None:
            self._stream, self._exchange = stream, exchange

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._stream:
                    if seen := self._exchange.feed(chunk):
                        yield seen
            except GeneratorExit:
                raise
            except BaseException as error:
                self._exchange.fail(error)
                raise
            if rest := self._exchange.end():
                yield rest

        async def aclose(self) -> None:
            self._exchange.end(is_partial=True)
            await self._stream.aclose()

    @wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        exchange = _begin(self, request)
        if exchange is None:
            return await original(self, request, **options)
        try:
            with sending():
                response = await original(self, _request(library, request, exchange), **options)
                exchange.answered(response.status_code, response.headers, is_encoded=True)
                if exchange.refuses_usage(await response.aread() if response.status_code in (400, 422) else b""):
                    exchange.forget_usage()
                    response = await original(self, _request(library, request, exchange), **options)
                    exchange.answered(response.status_code, response.headers, is_encoded=True)
        except BaseException as error:
            exchange.fail(error)
            raise
        if response.is_stream_consumed:
            exchange.answered(response.status_code, response.headers)
            exchange.complete(response.content)
        else:
            response.stream = Tee(response.stream, exchange)
        return response

    library.AsyncClient.send = send


def _begin(client: Any, request: Any) -> Exchange | None:
    if getattr(client, "agentlightning_own", False):
        return None
    body = getattr(request, "_content", None)  # absent when the body is itself a stream: never a model call
    return begin(request.method, request.url.path, request.url, request.headers, body)


def _request(library: Any, request: Any, exchange: Exchange) -> Any:
    """The request to send: the agent's own object unless its body had to change."""
    if not exchange.is_changed:
        return request
    dropped = {b"content-length", b"accept-encoding"} if exchange.has_asked_usage else {b"content-length"}
    headers = [(key, value) for key, value in request.headers.raw if key.lower() not in dropped]
    if exchange.has_asked_usage:  # a compressed stream could not have its usage event taken out again
        headers.append((b"accept-encoding", b"identity"))
    return library.Request(
        request.method, request.url, headers=headers, content=exchange.body, extensions=request.extensions
    )
