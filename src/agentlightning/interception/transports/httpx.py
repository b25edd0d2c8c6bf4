"""httpx and httpx2: `Client.send` and `AsyncClient.send`, one patch for both, since they share their API.

A response the caller reads as a stream gets its byte stream wrapped; any other was read inside `send` already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial, wraps
from typing import Any

from agentlightning.errors import DataError
from agentlightning.interception.answering import Answer
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.scope import entered
from agentlightning.interception.seam import answered, answered_async, begin, deliver, deliver_async, is_watched
from agentlightning.interception.transports.loops import arrive


def patch(library: Any) -> None:
    """Class-level, so clients that exist already are covered too."""
    _patch_sync(library)
    _patch_async(library)


def _patch_sync(library: Any) -> None:
    original = library.Client.send

    class Tee(library.SyncByteStream):
        def __init__(self, response: Any, exchange: Exchange) -> None:
            self._stream, self._exchange = response.stream, exchange
            opened = _opened(library, response, exchange)
            self._chunks = self._stream if opened is None else opened.iter_bytes()

        def __iter__(self) -> Iterator[bytes]:
            try:
                for chunk in self._chunks:
                    if seen := self._exchange.feed(chunk):
                        yield seen
            except GeneratorExit:
                self._exchange.end(is_partial=True)
                raise
            except BaseException as error:
                self._exchange.fail(error)
                raise
            if rest := self._exchange.end():
                yield rest

        def close(self) -> None:
            self._exchange.end(is_partial=True)
            self._stream.close()

    class Given(library.BaseTransport, library.SyncByteStream):
        """Where a client believes our own answer to come from."""

        def __init__(self, answer: Answer) -> None:
            self._answer = answer

        def handle_request(self, request: Any) -> Any:
            return library.Response(self._answer.status, headers=self._answer.headers, stream=self)

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._answer.pieces)

    @wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        exchange = _begin(request) if is_watched(self) else None
        if exchange is None:
            return original(self, request, **options)
        if (answer := answered(exchange)) is not None:
            with entered(None):
                return original(_client_of(library.Client, self, Given(answer)), request, **options)

        def attempt() -> Any:
            response = original(self, _request(library, request, exchange), **options)
            exchange.answered(response.status_code, response.headers)
            return response

        response = deliver(exchange, attempt, lambda refusal: refusal.read())
        return _observed(response, exchange, Tee)

    library.Client.send = send


def _patch_async(library: Any) -> None:
    original = library.AsyncClient.send

    class Tee(library.AsyncByteStream):
        def __init__(self, response: Any, exchange: Exchange) -> None:
            self._stream, self._exchange = response.stream, exchange
            opened = _opened(library, response, exchange)
            self._chunks = self._stream if opened is None else opened.aiter_bytes()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in self._chunks:
                    if seen := self._exchange.feed(chunk):
                        yield seen
            except GeneratorExit:
                self._exchange.end(is_partial=True)
                raise
            except BaseException as error:
                self._exchange.fail(error)
                raise
            if rest := self._exchange.end():
                yield rest

        async def aclose(self) -> None:
            self._exchange.end(is_partial=True)
            await self._stream.aclose()

    class Given(library.AsyncBaseTransport, library.AsyncByteStream):
        """Where a client believes our own answer to come from."""

        def __init__(self, answer: Answer) -> None:
            self._answer = answer

        async def handle_async_request(self, request: Any) -> Any:
            return library.Response(self._answer.status, headers=self._answer.headers, stream=self)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._answer.pieces:
                yield piece

    @wraps(original)
    async def send(self: Any, request: Any, **options: Any) -> Any:
        if not is_watched(self):
            return await original(self, request, **options)
        arrive(self)
        exchange = _begin(request)
        if exchange is None:
            return await original(self, request, **options)
        if (answer := await answered_async(exchange)) is not None:
            with entered(None):
                return await original(_client_of(library.AsyncClient, self, Given(answer)), request, **options)

        async def attempt() -> Any:
            response = await original(self, _request(library, request, exchange), **options)
            exchange.answered(response.status_code, response.headers)
            return response

        response = await deliver_async(exchange, attempt, lambda refusal: refusal.aread())
        return _observed(response, exchange, Tee)

    library.AsyncClient.send = send


def _client_of(kind: Any, client: Any, transport: Any) -> Any:
    """The caller's client (its hooks, cookies, encoding) over another transport. Its own connections stay untouched."""
    other = object.__new__(kind)
    vars(other).update(vars(client) | {"_transport": transport, "_mounts": {}})
    return other


def _begin(request: Any) -> Exchange | None:
    body = getattr(request, "_content", None)  # absent when the body is itself a stream: never a model call
    return begin(request.method, request.url.path, request.url, request.headers, body)


def _request(library: Any, request: Any, exchange: Exchange) -> Any:
    """The request to send: the agent's own object unless its body had to change, then a copy with another body."""
    if not exchange.is_changed:
        return request
    changed = object.__new__(type(request))
    vars(changed).update(vars(request))  # building one anew would take several times as long
    changed.headers = request.headers.copy()
    changed.headers["content-length"] = str(len(exchange.body))
    if exchange.has_asked_usage:  # spares us to decompress the stream for taking its usage event out again
        changed.headers["accept-encoding"] = "identity"
    changed.stream, changed._content = library.ByteStream(exchange.body), exchange.body
    return changed


def _observed(response: Any, exchange: Exchange, tee: Any) -> Any:
    if not exchange.is_recorded:
        return response
    if response.is_stream_consumed:
        exchange.complete(response.content)
    else:
        response.stream = tee(response, exchange)
    return response


def _opened(library: Any, response: Any, exchange: Exchange) -> Any:
    """A second response that decompresses the stream, where it must be edited on the way; else None.

    The caller's response then no longer says it is compressed. A stream nobody edits is decompressed when it is read
    for the record, with what the library itself would use.
    """
    encoding = response.headers.get("content-encoding")
    if encoding is None:
        return None
    headers = {"content-encoding": encoding}
    if not exchange.has_asked_usage:
        exchange.decompress = partial(_decompressed, library, headers)
        return None
    del response.headers["content-encoding"]
    return library.Response(response.status_code, headers=headers, stream=response.stream)


def _decompressed(library: Any, headers: dict[str, str], content: bytes) -> bytes:
    try:
        return library.Response(200, headers=headers, content=content).content
    except library.DecodingError as error:
        raise DataError(f"its compression ({headers['content-encoding']}) cannot be undone: {error}") from error
