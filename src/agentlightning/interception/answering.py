"""Answers we give ourselves: a responder's reply, written as the provider that was meant would have written it.

Nothing is sent, so no key leaves. What went wrong becomes an error in the caller's dialect, marked as not worth
repeating: the same engine would answer the same. Stored conversations (`previous_response_id`) are ours to remember.
"""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.record import new_id
from agentlightning.errors import ContextTooLong, DataError
from agentlightning.interception.dialects.base import Body, Dialect
from agentlightning.interception.scope import Scope, entered

if TYPE_CHECKING:
    from agentlightning.interception.exchange import Exchange

_STREAM_TYPES = {"event-stream": "text/event-stream", "ndjson": "application/x-ndjson"}
_MAX_CONVERSATIONS = 10_000
"""Remembered at once; the oldest go first. A rollout has a few, a server that stays up many."""
Conversations = dict[str, list[Message]]
"""Id of an answer → every message up to it, without the instructions, which are never carried over."""


class Answer(msgspec.Struct, frozen=True):
    """What the caller is given, as bytes."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes]
    """The events of a stream, one by one; else the body."""

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def ask(exchange: Exchange, scope: Scope, body: Body, call: Call) -> bool:
    """Ask the scope's responder for an answer. True: it will come, and nothing need be sent.

    `body` is the request as the agent wrote it, `call` what it has become.
    """
    assert scope.responder is not None
    rollout_id = scope.recorder.rollout_id if scope.recorder is not None else ""
    exchange.asked, exchange.wants_usage = call, exchange.dialect.wants_usage(body)
    try:
        exchange.asked = _continued(call, scope.conversations)
        with entered(None):  # it may start threads and programs of its own, which are no part of the rollout
            exchange.answering = scope.responder.respond(exchange.asked, scope.policy, rollout_id)
    except Exception as error:  # noqa: BLE001 - told to the agent, as a provider's error would be
        exchange.answering = Future()
        exchange.answering.set_exception(error)
    if exchange.answering is None:
        exchange.asked = None
        return False
    exchange.conversations = scope.conversations if exchange.dialect.name == "responses" else None
    exchange.is_instructed = bool(body.get("instructions"))
    return True


def given(exchange: Exchange, reply: Reply) -> Answer:
    """The answer that tells `reply`. The exchange is over with it, however much of it the caller will read."""
    call, id = exchange.asked, new_id("resp")
    assert call is not None
    reply = _with_call_ids(reply, id)
    answer = written(exchange.dialect, reply, call, id=id, with_usage=exchange.wants_usage)
    if exchange.conversations is not None:
        _remember(exchange.conversations, id, call.messages[1:] if exchange.is_instructed else call.messages, reply)
    exchange.given = reply
    exchange.answered(answer.status, answer.headers)
    exchange.end()
    return answer


def refused(exchange: Exchange, error: BaseException) -> Answer:
    """The answer that tells what went wrong, in the caller's dialect."""
    answer = refusal(exchange.dialect, error)
    exchange.answered(answer.status, answer.headers)
    exchange.complete(answer.body)
    return answer


def written(dialect: Dialect, reply: Reply, call: Call, *, id: str, with_usage: bool = True) -> Answer:
    """A reply in a dialect, whole or as the stream that was asked for."""
    created = time.time()
    if call.stream:
        pieces = list(dialect.respond_stream(reply, call, id=id, created=created, with_usage=with_usage))
        return Answer(200, {"content-type": _STREAM_TYPES[dialect.stream_type]}, pieces)
    content = msgspec.json.encode(dialect.respond(reply, call, id=id, created=created))
    return Answer(200, _lengthy("application/json", content), [content])


def refusal(dialect: Dialect, error: BaseException, status: int | None = None) -> Answer:
    """An error in a dialect: 400 for what the caller can change about the request, 500 for anything else."""
    status = status or (400 if isinstance(error, ContextTooLong | DataError) else 500)
    code = "context_length_exceeded" if isinstance(error, ContextTooLong) else None
    content = msgspec.json.encode(dialect.refuse(_message(error), status, code))
    headers = _lengthy("application/json", content)
    return Answer(status, headers | {"x-should-retry": "false"}, [content])


def _message(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "the engine that was to answer has stopped"
    return str(error) or type(error).__name__


def _lengthy(content_type: str, content: bytes) -> dict[str, str]:
    return {"content-type": content_type, "content-length": str(len(content))}


def _with_call_ids(reply: Reply, id: str) -> Reply:
    """Every tool call with an id, so that the record and the agent know it by the same."""
    calls = reply.message.get("tool_calls")
    if not calls or all(call.get("id") for call in calls):
        return reply
    named = [call if call.get("id") else call | {"id": f"call_{id}_{place}"} for place, call in enumerate(calls)]
    return msgspec.structs.replace(reply, message=reply.message | {"tool_calls": named})


def _continued(call: Call, known: Conversations) -> Call:
    """The call with the messages that it only names (`previous_response_id`)."""
    earlier = call.params.get("previous_response_id")
    if call.params.get("conversation"):
        raise DataError("conversations kept by a provider are not known here; send the messages themselves")
    if not isinstance(earlier, str):
        return call
    if earlier not in known:
        raise DataError(f"previous response {earlier!r} was not answered here, or too long ago; send its messages")
    first = 1 if call.messages and call.messages[0].get("role") == "system" else 0
    messages = [*call.messages[:first], *known[earlier], *call.messages[first:]]
    return msgspec.structs.replace(call, messages=messages)


def _remember(known: Conversations, id: str, messages: list[Message], reply: Reply) -> None:
    known[id] = [*messages, reply.message]
    for oldest in list(known)[: len(known) - _MAX_CONVERSATIONS] if len(known) > _MAX_CONVERSATIONS else ():
        known.pop(oldest, None)
