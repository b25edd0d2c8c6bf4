"""The two ways of streaming JSON objects over HTTP: server-sent events, and one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from agentlightning.errors import DataError
from agentlightning.interception.dialects.values import Body, decode_object

_PIECE = 16
"""Characters in a piece of streamed text: a few tokens."""


def events(content: bytes) -> Iterator[Body]:
    """The objects of server-sent events, in order. Comments, what is no object and a cut-off end are left out."""
    data: list[bytes] = []
    for line in (*content.splitlines(), b""):
        if line.startswith(b"data:"):
            data.append(line[5:])
        elif not line and data:
            with suppress(DataError):
                yield decode_object(b"\n".join(data))
            data = []


def lines(content: bytes) -> Iterator[Body]:
    """The objects of a stream of lines, in order. What is no object and a cut-off end are left out."""
    for line in content.splitlines():
        with suppress(DataError):
            yield decode_object(line)


def event(body: Body, *, name: str = "") -> bytes:
    """One server-sent event."""
    data = b"data: " + msgspec.json.encode(body) + b"\n\n"
    return f"event: {name}\n".encode() + data if name else data


def line(body: Body) -> bytes:
    """One line."""
    return msgspec.json.encode(body) + b"\n"


def pieces(text: str) -> Iterator[str]:
    """A text as a stream brings it."""
    return (text[start : start + _PIECE] for start in range(0, len(text), _PIECE))
