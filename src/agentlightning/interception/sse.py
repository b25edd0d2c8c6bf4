"""A stream of server-sent events without the usage event that only we asked for."""

from __future__ import annotations

import re

from agentlightning.interception.dialects.base import Dialect
from agentlightning.interception.dialects.streams import events

_BLANK_LINES = (b"\n\n", b"\r\n\r\n", b"\r\r")
_EVENT = re.compile(rb".+?(?:\r?\n\r?\n|\r\r|\Z)", re.DOTALL)


class UsageFilter:
    """Takes usage events out of a stream that comes in arbitrary pieces. Everything else keeps its bytes.

    A piece is handed on as soon as its events are whole, so that an event split over two pieces is recognised too.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._may_hold_usage = dialect.may_hold_usage
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        """What of the stream can be handed on, now that this piece has come."""
        data = self._pending + chunk if self._pending else chunk
        if data.endswith(_BLANK_LINES[:2]):
            self._pending = b""
            return self._without_usage(data) if self._may_hold_usage(data) else data
        end = max(data.rfind(blank) + len(blank) if blank in data else 0 for blank in _BLANK_LINES)
        self._pending = data[end:]
        return self._without_usage(data[:end])

    def flush(self) -> bytes:
        """What was still held when the stream ended."""
        rest, self._pending = self._pending, b""
        return self._without_usage(rest)

    def _without_usage(self, data: bytes) -> bytes:
        if not self._may_hold_usage(data):
            return data
        return b"".join(event for event in _EVENT.findall(data) if not self._is_usage(event))

    def _is_usage(self, event: bytes) -> bool:
        return any(self._dialect.is_usage_event(body) for body in events(event))
