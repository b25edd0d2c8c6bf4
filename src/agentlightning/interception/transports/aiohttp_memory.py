"""aiohttp, answered without a network: a connection whose far end is a few bytes in memory.

The library itself reads them, so the response is in every respect its own, whatever version wrote it.
"""

from __future__ import annotations

import asyncio
from functools import cache
from http import HTTPStatus
from typing import Any

from agentlightning.interception.answering import Answer


class _FarEnd(asyncio.Transport):
    """Gives the answer once the request begins to arrive; what the request says goes nowhere."""

    def __init__(self, protocol: Any, content: bytes) -> None:
        super().__init__()
        self._protocol, self._content = protocol, content
        self._is_closing = False

    def write(self, data: Any) -> None:
        content, self._content = self._content, b""
        if content and not self._is_closing:
            asyncio.get_running_loop().call_soon(self._protocol.data_received, content)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_protocol(self) -> Any:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return not self._is_closing

    def pause_reading(self) -> None:
        """All of it is there already."""

    def resume_reading(self) -> None:
        """As `pause_reading`."""


def session_of(library: Any, session: Any, answer: Answer) -> Any:
    """The caller's session (its cookies, hooks, settings), which gets our own answer whomever it calls."""
    other = object.__new__(library.ClientSession)
    vars(other).update(vars(session) | {"_connector": _connector_kind(library)(_written(answer))})
    return other


@cache
def _connector_kind(library: Any) -> Any:
    class Given(library.BaseConnector):
        # what its connectors for TCP and Unix sockets allow, whatever this version calls it
        allowed_protocol_schema_set = getattr(library.TCPConnector, "allowed_protocol_schema_set", frozenset())

        def __init__(self, content: bytes) -> None:
            super().__init__(force_close=True)
            self._content = content

        async def _create_connection(self, *_request: Any) -> Any:
            protocol = self._factory()
            protocol.connection_made(_FarEnd(protocol, self._content))
            return protocol

    return Given


def _written(answer: Answer) -> bytes:
    """The answer as HTTP/1.1, with its length."""
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    if "content-length" not in answer.headers:
        lines.append(f"content-length: {len(answer.body)}")
    return "\r\n".join([*lines, "", ""]).encode() + answer.body
