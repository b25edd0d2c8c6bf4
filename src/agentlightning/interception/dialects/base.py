"""What a wire format must offer: a call out of a request, the request of a changed call, a reply out of a response.

Pure translation. Rewriting changes only what differs between two calls, so whatever we do not know survives. Bodies
come from outside: a method may refuse one with DataError, and never fails on it in any other way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.errors import DataError

Body = dict[str, Any]
_decode = msgspec.json.Decoder().decode


def decode_object(content: bytes) -> Body:
    """The JSON object that some bytes are; DataError when they are none."""
    try:
        body = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"it is no JSON ({error}): {content[:80]!r}") from error
    if not isinstance(body, dict):
        raise DataError(f"it is no JSON object: {content[:80]!r}")
    return body


class Dialect(Protocol):
    """One wire format. `body` is a decoded JSON object, `content` the bytes of one."""

    name: str
    path_suffix: str
    stream_end: bytes
    """What only the last event of a stream that was not cut short contains."""

    def call(self, body: Body, agent: str) -> Call:
        """The dialect-neutral call a request asks for. DataError when it is no such request."""
        ...

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        """The request of `after`, given that `body` is the request of `before`."""
        ...

    def reply(self, body: Body) -> Reply:
        """The reply of a complete response. DataError when it is no such response."""
        ...

    def assemble(self, events: Iterable[Body]) -> Reply:
        """The reply that a stream's events add up to, complete or cut short."""
        ...

    def ask_usage(self, content: bytes) -> bytes | None:
        """The streaming request with token usage asked for, or None when nothing needs to change."""
        ...

    def may_hold_usage(self, content: bytes) -> bool:
        """A quick look at a piece of a stream: False when surely none of its events is a usage event."""
        ...

    def is_usage_event(self, event: Body) -> bool:
        """Is this stream event there only because usage was asked for?"""
        ...
