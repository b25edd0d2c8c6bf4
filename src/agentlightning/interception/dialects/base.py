"""What a wire format must offer: requests as calls and back, responses as replies and back, whole and streamed.

Pure translation. Rewriting changes only what differs between two calls, so whatever we do not know survives. Bodies
come from outside: a method may refuse one with DataError, and never fails on it in any other way.

Messages keep the chat-completions shape: images are `image_url` parts, a tool's result is a message of role `tool`,
what a model thought aloud is `reasoning_content`. Content parts of a kind that shape lacks stay in their format's own.
Finish reasons are chat's too (`stop`, `length`, `tool_calls`, `content_filter`); others keep their format's word.
Parameters keep the dialect's own names: the cap on the answer is `max_tokens` or `max_completion_tokens` (chat),
`max_output_tokens` (Responses), `max_tokens` (Messages), `num_predict` (Ollama).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from agentlightning.data.call import Call, Reply
from agentlightning.interception.dialects import streams
from agentlightning.interception.dialects.values import Body, decode_object

__all__ = ["Body", "Dialect", "ServerSentEvents", "decode_object", "error_kind", "rewritten_fields"]

_ABSENT = object()


class Dialect(Protocol):
    """One wire format. `body` is a decoded JSON object, `content` the bytes of one."""

    name: str
    path_suffix: str
    marks: tuple[bytes, ...]
    """What every request of this format contains; a body without is no model call, though the path fits."""
    stream_type: str
    """What the content type of a streamed answer contains."""
    stream_starts: tuple[bytes, ...]
    """How a streamed answer begins, should its content type not say so."""
    stream_end: re.Pattern[bytes]
    """Found only in the last event of a stream that was not cut short."""

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        """The dialect-neutral call a request (sent to a URL path) asks for. DataError when it is no such request."""
        ...

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        """The request of `after`, given that `body` is the request of `before`."""
        ...

    def reply(self, body: Body) -> Reply:
        """The reply of a complete response. DataError when it is no such response."""
        ...

    def events(self, content: bytes) -> Iterator[Body]:
        """The objects in the bytes of a stream, complete or cut short."""
        ...

    def assemble(self, events: Iterable[Body]) -> Reply:
        """The reply that a stream's events add up to, complete or cut short."""
        ...

    def failure(self, body: Body) -> str | None:
        """What a response, or an event of a stream, says went wrong; None when it is no error."""
        ...

    def refuse(self, message: str, status: int, code: str | None = None) -> Body:
        """The body of an answer that tells an error; `code` is OpenAI's word for it, where it has one."""
        ...

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        """A response that gives `reply` to the caller of `call`. `created` is in seconds since the epoch."""
        ...

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        """The same as the bytes of a stream, one event at a time, up to and with the last.

        `with_usage`: see `wants_usage`; formats that always tell usage tell it anyway.
        """
        ...

    def wants_usage(self, body: Body) -> bool:
        """Does the caller of this request expect a streamed answer to tell its usage?"""
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


class ServerSentEvents:
    """What most formats have in common: they stream server-sent events, and tell usage unasked."""

    marks: tuple[bytes, ...] = ()
    stream_type = "event-stream"
    stream_starts: tuple[bytes, ...] = (b"data:", b"event:")

    def events(self, content: bytes) -> Iterator[Body]:
        return streams.events(content)

    def failure(self, body: Body) -> str | None:
        error: Any = body.get("error")
        if not error:
            return None
        return str(error.get("message", error) if isinstance(error, dict) else error)

    def refuse(self, message: str, status: int, code: str | None = None) -> Body:
        kind = error_kind(status) if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def wants_usage(self, body: Body) -> bool:
        return True

    def ask_usage(self, content: bytes) -> bytes | None:
        return None

    def may_hold_usage(self, content: bytes) -> bool:
        return False

    def is_usage_event(self, event: Body) -> bool:
        return False


def error_kind(status: int) -> str:
    """What OpenAI and Anthropic both call an error of a status, where they agree; ours are few."""
    kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
    return kinds.get(status, "invalid_request_error" if status < 500 else "api_error")


def rewritten_fields(body: Body, before: Call, after: Call) -> Body:
    """A copy of the request with the model and the parameters that changed."""
    changed = dict(body)
    if after.model != before.model:
        changed["model"] = after.model
    if after.params is before.params:
        return changed
    for key in before.params.keys() - after.params.keys():
        changed.pop(key, None)
    return changed | {key: value for key, value in after.params.items() if before.params.get(key, _ABSENT) != value}
