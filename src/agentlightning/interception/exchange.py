"""One send and what came of it, as raw bytes; they become a `Step` later, off the agent's thread.

The exchange is opened when the request leaves, so an answer that is never read still leaves a record (`is_partial`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import Any

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.trajectory import Step
from agentlightning.interception.dialects.base import Dialect
from agentlightning.interception.reading import read_step
from agentlightning.interception.sse import UsageFilter


class Exchange:
    """Bytes out, bytes back. Written by the thread that calls the model, read by any."""

    path: str = ""
    """The URL's path, which may name the model."""
    policy_id: str | None = None
    steered: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    latency_seconds: float | None = None
    status: int | None = None
    error: str | None = None
    is_partial: bool = True
    """The body was not read to its last byte."""
    answering: Future[Reply] | None = None
    """Where our own answer will be; such a call is not sent."""
    asked: Call | None = None
    """What was asked of the responder, and what it gave: known without reading bytes, and more than they can say."""
    given: Reply | None = None
    wants_usage: bool = True
    conversations: dict[str, list[Message]] | None = None
    is_instructed: bool = False
    decompress: Callable[[bytes], bytes] | None = None
    """What makes the collected bytes readable, when they are still compressed; DataError when it cannot."""
    _body_without_usage: bytes | None = None
    _usage_filter: UsageFilter | None = None
    _answer_headers: Mapping[str, str] = MappingProxyType({})

    def __init__(
        self,
        *,
        index: int,
        agent: str,
        dialect: Dialect,
        url: Any,
        headers: Mapping[Any, Any],
        body: bytes,
        on_end: Callable[[Exchange], None] | None = None,
        is_recorded: bool = True,
    ) -> None:
        self.index = index
        self.agent = agent
        self.dialect = dialect
        self.url = url
        self.headers = headers
        self.original_body = body
        self.body = body
        """What is really sent; differs from `original_body` when steered or when usage was asked for."""
        self.is_recorded = is_recorded
        """False: only the request is of interest (it was steered), so nobody need look at the response."""
        self.started_at = time.time()
        self.chunks: list[bytes] = []
        self._t0 = time.perf_counter()
        self._on_end = on_end
        self._ending = iter((True,))  # whoever draws from it ends the exchange; drawing is atomic

    @property
    def is_changed(self) -> bool:
        return self.body is not self.original_body

    @property
    def is_stream(self) -> bool:
        """Does the response's head say that a stream follows?"""
        return self.dialect.stream_type in self._answer_type()

    @property
    def has_asked_usage(self) -> bool:
        return self._body_without_usage is not None

    def ask_usage(self) -> None:
        """Have a streamed answer end with its token usage; the event it comes in is taken out again."""
        changed = self.dialect.ask_usage(self.body)
        if changed is not None:
            self.body, self._body_without_usage = changed, self.body

    def may_refuse_usage(self) -> bool:
        """Was the request turned down, perhaps only because usage was asked for? The body of the answer tells."""
        return self.has_asked_usage and self.status in (400, 422)

    def forget_usage(self) -> None:
        """Make `body` the request as the agent wrote it (but for its prompt)."""
        if self._body_without_usage is not None:
            self.body, self._body_without_usage = self._body_without_usage, None

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The response's head is here."""
        self.status, self._answer_headers = status, headers
        if self.has_asked_usage and status < 400 and "json" not in self._answer_type():
            self._usage_filter = UsageFilter(self.dialect)

    def feed(self, chunk: bytes) -> bytes:
        """Keep a piece of the body; gives back what the caller should see (without the usage event we asked for)."""
        self.chunks.append(chunk)
        return chunk if self._usage_filter is None else self._usage_filter.feed(chunk)

    def end(self, *, is_partial: bool = False) -> bytes:
        """The body is over, or (partial) nobody will read its rest. Gives back what `feed` still held."""
        if next(self._ending, False):
            self.is_partial = is_partial
            self.latency_seconds = time.perf_counter() - self._t0
            on_end, self._on_end = self._on_end, None  # or the recorder and its entries would hold each other
            if on_end is not None:
                on_end(self)
        return b"" if self._usage_filter is None else self._usage_filter.flush()

    def complete(self, body: bytes) -> None:
        """The whole body at once."""
        self.chunks.append(body)
        self.end()

    def fail(self, error: BaseException) -> None:
        """No answer came, or the stream broke."""
        if self.latency_seconds is None:
            self.error = f"{type(error).__name__}: {error}".strip(": ")
            has_begun = self.status is not None
            self.status = self.status or _status_of(error)
            self.end(is_partial=has_begun)

    def _answer_type(self) -> str:
        return self._answer_headers.get("content-type") or ""

    def to_step(self, rollout_id: str, step_id: str) -> Step:
        """The exchange as a record, finished or not. Never raises: what cannot be read becomes its error."""
        return read_step(self, rollout_id, step_id)


def _status_of(error: BaseException) -> int | None:
    """The status in an error a library raises for one (`raise_for_status` hooks)."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
