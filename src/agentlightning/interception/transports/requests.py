"""requests: `Session.send`, where the prepared bytes are; the openai SDK 0.28 leaves here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from agentlightning.interception.exchange import Exchange
from agentlightning.interception.seam import begin, sending


class _Tee:
    """Stands before a response's raw urllib3 object; everything but reading goes straight through."""

    def __init__(self, raw: Any, exchange: Exchange) -> None:
        self._raw, self._exchange = raw, exchange

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        try:
            for chunk in self._raw.stream(*args, **kwargs):
                if seen := self._exchange.feed(chunk):
                    yield seen
        except GeneratorExit:
            raise
        except BaseException as error:
            self._exchange.fail(error)
            raise
        if rest := self._exchange.end():
            yield rest

    def read(self, *args: Any, **kwargs: Any) -> bytes:
        data: bytes = self._raw.read(*args, **kwargs)
        if data:
            return self._exchange.feed(data)
        return self._exchange.end()

    def close(self) -> None:
        self._exchange.end(is_partial=True)
        self._raw.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


def patch(library: Any) -> None:
    """Class-level, so sessions that exist already are covered too."""
    original = library.Session.send

    @wraps(original)
    def send(self: Any, request: Any, **options: Any) -> Any:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        body = body if isinstance(body, bytes) else None
        exchange = begin(request.method or "", urlsplit(request.url).path, request.url, request.headers, body)
        if exchange is None:
            return original(self, request, **options)
        try:
            with sending():
                response = original(self, _request(request, exchange), **options)
                exchange.answered(response.status_code, response.headers)
                if exchange.refuses_usage(response.content if response.status_code in (400, 422) else b""):
                    exchange.forget_usage()
                    response = original(self, _request(request, exchange), **options)
                    exchange.answered(response.status_code, response.headers)
        except BaseException as error:
            exchange.fail(error)
            raise
        if options.get("stream") and not response._content_consumed:
            response.raw = _Tee(response.raw, exchange)
        else:
            exchange.complete(response.content)
        return response

    library.Session.send = send


def _request(request: Any, exchange: Exchange) -> Any:
    if not exchange.is_changed:
        return request
    changed = request.copy()
    changed.prepare_body(exchange.body, None)  # sets the length too
    if exchange.has_asked_usage:
        changed.headers["Accept-Encoding"] = "identity"
    return changed
