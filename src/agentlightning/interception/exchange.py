"""One send and what came of it, as raw bytes; they become a `Step` later, off the agent's thread.

The exchange is opened when the request leaves, so an answer that is never read still leaves a record (`is_partial`).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.data.trajectory import Step
from agentlightning.errors import DataError
from agentlightning.interception.dialects.base import Body, Dialect

_decode = msgspec.json.Decoder().decode
_SEPARATORS = (b"\n\n", b"\r\n\r\n")


class Exchange:
    """Bytes out, bytes back. Written by the thread that calls the model, read after it ended."""

    def __init__(
        self,
        *,
        index: int,
        agent: str,
        dialect: Dialect,
        url: Any,
        headers: Mapping[str, str],
        body: bytes,
        on_end: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.index = index
        self.agent = agent
        self.dialect = dialect
        self.url = url
        self.headers = headers
        self.original_body = body
        self.body = body
        """What is really sent; differs from `original_body` when steered or when usage was asked for."""
        self.policy_id: str | None = None
        self.steered: tuple[str, ...] = ()
        self.missed: tuple[str, ...] = ()
        self.has_asked_usage = False
        self.started_at = time.time()
        self.latency_seconds: float | None = None
        self.status: int | None = None
        self.error: str | None = None
        self.is_partial = True
        self._t0 = time.perf_counter()
        self._chunks: list[bytes] = []
        self._encoding = ""
        self._is_stream = False
        self._pending = b""
        self._has_ended = False
        self._on_end = on_end

    @property
    def is_changed(self) -> bool:
        return self.body is not self.original_body

    def answered(self, status: int, headers: Mapping[str, str], *, is_encoded: bool = False) -> None:
        """The response's head is here. `is_encoded`: the bytes to come are still compressed as the head says."""
        self.status = status
        self._is_stream = "event-stream" in headers.get("content-type", "")
        self._encoding = headers.get("content-encoding", "") if is_encoded else ""

    def feed(self, chunk: bytes) -> bytes:
        """Keep a piece of the body; gives back what the caller should see (without the usage event we asked for)."""
        self._chunks.append(chunk)
        if not (self.has_asked_usage and self._is_stream) or self._encoding:
            return chunk
        return self._without_usage_event(chunk)

    def end(self, *, is_partial: bool = False) -> bytes:
        """The body is over. Gives back what `feed` still held."""
        rest, self._pending = self._pending, b""
        if not self._has_ended:
            self._has_ended = True
            self.is_partial = is_partial
            self.latency_seconds = time.perf_counter() - self._t0
            if self._on_end is not None:
                self._on_end(self)
        return rest

    def complete(self, body: bytes) -> None:
        """The whole body at once."""
        self._chunks.append(body)
        self.end()

    def fail(self, error: BaseException) -> None:
        """No answer came, or the stream broke."""
        self.error = f"{type(error).__name__}: {error}".strip(": ")
        self.end(is_partial=bool(self._chunks))

    def refuses_usage(self, content: bytes) -> bool:
        """Did the endpoint turn this request down only because usage was asked for?"""
        return self.has_asked_usage and self.status in (400, 422) and b"stream_options" in content

    def forget_usage(self) -> None:
        """Send the request as the agent wrote it (but for its prompt): the endpoint does not know `stream_options`."""
        self.has_asked_usage = False
        body = _decode(self.body)
        body.pop("stream_options", None)
        self.body = msgspec.json.encode(body)

    def to_step(self, rollout_id: str, step_id: str) -> Step:
        """The finished (or cut short) exchange as a record. Never raises: what cannot be read becomes its error."""
        call, reply, error = self._parse()
        return Step(
            id=step_id,
            rollout_id=rollout_id,
            index=self.index,
            kind="model",
            agent=self.agent,
            started_at=self.started_at,
            latency_seconds=self.latency_seconds,
            call=call,
            reply=reply,
            error=error,
            status=self.status,
            retry=_retry_count(self.headers),
            is_partial=self.is_partial,
            dialect=self.dialect.name,
            endpoint=_without_query(str(self.url)),
            policy_id=self.policy_id,
            steered_sites=list(self.steered),
            missed_sites=list(self.missed),
            prompt_ids=reply.prompt_ids if reply else None,
            completion_ids=reply.completion_ids if reply else None,
            logprobs=reply.logprobs if reply else None,
        )

    def _parse(self) -> tuple[Call | None, Reply | None, str | None]:
        call: Call | None = None
        try:
            call = self.dialect.call(_decode(self.body), self.agent)
            if self.error or self.status is None:
                return call, None, self.error or "no answer: the call was still open when the rollout ended"
            content = self._content()
            if self.status >= 400:
                return call, None, _provider_message(self.status, content)
            if self._is_stream:
                return call, self.dialect.assemble(_events(content)), None
            return call, self.dialect.reply(_decode(content)), None
        except (DataError, msgspec.DecodeError, UnicodeDecodeError, zlib.error) as error:
            return call, None, f"the endpoint's answer cannot be read as {self.dialect.name}: {error}"

    def _content(self) -> bytes:
        content = b"".join(self._chunks)
        if self._encoding in ("gzip", "deflate"):
            return zlib.decompressobj(wbits=47 if self._encoding == "gzip" else 15).decompress(content)
        if self._encoding not in ("", "identity"):
            raise DataError(f"it is compressed with {self._encoding!r}, which is only passed through")
        return content

    def _without_usage_event(self, chunk: bytes) -> bytes:
        """Whole events only, so that one split over two chunks is still recognised; the rest waits for its end."""
        data = self._pending + chunk
        ends = (data.rfind(separator) + len(separator) for separator in _SEPARATORS if separator in data)
        cut = max(ends, default=0)
        whole, self._pending = data[:cut], data[cut:]
        if b'"usage"' not in whole:
            return whole
        separator = b"\r\n\r\n" if b"\r\n\r\n" in whole else b"\n\n"
        kept = [event for event in whole.split(separator) if not self._is_usage(event)]
        return separator.join(kept)

    def _is_usage(self, event: bytes) -> bool:
        return any(self.dialect.is_usage_event(body) for body in _events(event))


def _events(content: bytes) -> Iterator[Body]:
    """The JSON objects of a server-sent event stream; a last event that was cut off is left out."""
    for line in content.splitlines():
        if not line.startswith(b"data:"):
            continue
        payload = line[5:].strip()
        if not payload or payload == b"[DONE]":
            continue
        try:
            event = _decode(payload)
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict):
            yield event


def _provider_message(status: int, content: bytes) -> str:
    try:
        body: Any = _decode(content)
        error = body.get("error", body) if isinstance(body, dict) else body
        message = error.get("message", error) if isinstance(error, dict) else error
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = content[:200].decode("utf-8", "replace")
    return f"HTTP {status}: {message}"


def _retry_count(headers: Mapping[str, str]) -> int:
    value = headers.get("x-stainless-retry-count", "0")
    return int(value) if value.isdigit() else 0


def _without_query(url: str) -> str:
    """Scheme, host and path: a query or user part may hold a key."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
