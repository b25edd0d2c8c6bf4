"""What a wire format must offer: a call out of a request, the request of a changed call, a reply out of a response.

Pure translation. Rewriting changes only what differs between two calls, so whatever we do not know survives.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from agentlightning.data.call import Call, Reply

Body = dict[str, Any]


class Dialect(Protocol):
    """One wire format. `body` is a decoded JSON object throughout."""

    name: str
    path_suffix: str

    def call(self, body: Body, agent: str) -> Call:
        """The dialect-neutral call a request asks for."""
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

    def ask_usage(self, body: Body) -> Body | None:
        """The streaming request with token usage asked for, or None when nothing needs to change."""
        ...

    def is_usage_event(self, event: Body) -> bool:
        """Is this stream event there only because usage was asked for?"""
        ...
