"""requests: `Session.send`, where the prepared bytes are; the openai SDK 0.28 leaves here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any
from urllib.parse import urlsplit

import wrapt

from agentlightning.interception.answering import Answer
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.scope import entered
from agentlightning.interception.seam import answered, begin, deliver, is_watched


class _Tee(wrapt.ObjectProxy):
    """A response's raw urllib3 object that shows us what is read from it."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        super().__init__(raw)
        self._self_exchange = exchange

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        return self._shown(self.__wrapped__.stream(*args, **kwargs))

    def read_chunked(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        return self._shown(self.__wrapped__.read_chunked(*args, **kwargs))

    def __iter__(self) -> Iterator[bytes]:
        return self._shown(iter(self.__wrapped__))

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        return self._read(self.__wrapped__.read, *args, **kwargs)

    def read1(self, *args: Any, **kwargs: Any) -> bytes:
        return self._read(self.__wrapped__.read1, *args, **kwargs)

    def close(self) -> None:
        self._self_exchange.end(is_partial=True)
        self.__wrapped__.close()

    def _shown(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        exchange = self._self_exchange
        try:
            for chunk in chunks:
                if seen := exchange.feed(chunk):
                    yield seen
        except GeneratorExit:
            exchange.end(is_partial=True)
            raise
        except BaseException as error:
            exchange.fail(error)
            raise
        if rest := exchange.end():
            yield rest

    def _read(self, read: Callable[..., bytes], *args: Any, **kwargs: Any) -> bytes:
        """One read; b"" only at the end, even while the last event is being held back."""
        exchange = self._self_exchange
        try:
            while data := read(*args, **kwargs):
                if seen := exchange.feed(data):
                    return seen
        except BaseException as error:
            exchange.fail(error)
            raise
        return exchange.end()


def patch(library: Any) -> None:
    """Class-level, so sessions that exist already are covered too."""
    original = library.Session.send

    @wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        exchange = _begin(request) if is_watched(self) else None
        if exchange is None:
            return original(self, request, **options)

        if (answer := answered(exchange)) is not None:
            with entered(None):
                return original(_session_of(self, answer), request, **options)

        def attempt() -> Any:
            response = original(self, _request(request, exchange), **options)
            exchange.answered(response.status_code, response.headers)
            return response

        response = deliver(exchange, attempt, lambda refusal: refusal.content)
        if not exchange.is_recorded:
            return response
        if response._content_consumed:
            exchange.complete(response.content)
        else:
            response.raw = _Tee(response.raw, exchange)
        return response

    library.Session.send = send


def _session_of(session: Any, answer: Answer) -> Any:
    """The caller's session (its hooks and cookies), which gets our own answer whomever it calls."""
    from requests import Session

    other = object.__new__(Session)
    vars(other).update(vars(session) | {"adapters": {"": _adapter_kind()(answer)}})
    return other


class _Body(io.BytesIO):
    """A body that says, as a connection's does, when all of it was read; else urllib3 would read on for ever."""

    def isclosed(self) -> bool:
        return self.closed or self.tell() == len(self.getbuffer())


@cache
def _adapter_kind() -> Any:
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPResponse

    class Given(HTTPAdapter):
        def __init__(self, answer: Answer) -> None:
            super().__init__()
            self._answer = answer

        def send(self, request: Any, *_args: Any, **_options: Any) -> Any:
            content, status = _Body(self._answer.body), self._answer.status
            raw = HTTPResponse(content, self._answer.headers, status, version=11, preload_content=False)
            return self.build_response(request, raw)

    return Given


def _begin(request: Any) -> Exchange | None:
    body = request.body.encode() if isinstance(request.body, str) else request.body
    given = body if isinstance(body, bytes) else None
    return begin(request.method, urlsplit(request.url).path, request.url, request.headers, given)


def _request(request: Any, exchange: Exchange) -> Any:
    if not exchange.is_changed:
        return request
    changed = request.copy()
    changed.prepare_body(exchange.body, None)  # sets the length too
    if exchange.has_asked_usage:
        changed.headers["Accept-Encoding"] = "identity"
    return changed
