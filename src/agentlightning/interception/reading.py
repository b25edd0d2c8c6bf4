"""The raw bytes of a call, read: what was asked, answered, and what went wrong. Never raises, never shows a key."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from agentlightning.data.call import Call, Reply
from agentlightning.data.trajectory import ENGINE, Step
from agentlightning.errors import DataError
from agentlightning.interception.credentials import credentials, without
from agentlightning.interception.dialects.base import Body, decode_object

if TYPE_CHECKING:
    from agentlightning.interception.exchange import Exchange

_Told = tuple[Call | None, Reply | None, str | None]
_GZIP = b"\x1f\x8b"


def read_step(exchange: Exchange, rollout_id: str, step_id: str) -> Step:
    """The step of an exchange, as far as it has come."""
    url = str(exchange.url)
    reached = _without_query(url) if exchange.asked is None else f"{ENGINE}{_model(exchange)}"
    call, refused = _call(exchange)
    reply, failed, is_whole = _answer(exchange)
    call, reply, error = _without_secrets(call, reply, failed or refused, credentials(exchange.headers, url))
    return Step(
        id=step_id,
        rollout_id=rollout_id,
        index=exchange.index,
        kind="model",
        agent=exchange.agent,
        started_at=exchange.started_at,
        latency_seconds=exchange.latency_seconds,
        call=call,
        reply=reply,
        error=error,
        status=exchange.status,
        retry=_retry_count(exchange.headers),
        is_partial=exchange.is_partial and not is_whole,
        dialect=exchange.dialect.name,
        endpoint=reached,
        policy_id=exchange.policy_id,
        steered_sites=list(exchange.steered),
        missed_sites=list(exchange.missed),
        prompt_ids=reply.prompt_ids if reply else None,
        completion_ids=reply.completion_ids if reply else None,
        logprobs=reply.logprobs if reply else None,
    )


def _model(exchange: Exchange) -> str:
    told = exchange.given.model if exchange.given is not None else ""
    return told or (exchange.asked.model if exchange.asked is not None else "")


def _call(exchange: Exchange) -> tuple[Call | None, str | None]:
    if exchange.asked is not None:
        return exchange.asked, None
    try:
        return exchange.dialect.call(decode_object(exchange.body), exchange.agent, exchange.path), None
    except DataError as error:
        return None, f"the request cannot be read as {exchange.dialect.name}: {error}"


def _answer(exchange: Exchange) -> tuple[Reply | None, str | None, bool]:
    """What was answered, what went wrong (both, when a stream broke in its middle), and whether it came to its end."""
    if exchange.given is not None:
        return exchange.given, exchange.error, True
    if exchange.status is None:
        return None, exchange.error or "no answer: the call was still open when the rollout ended", False
    try:
        content = _content(exchange)
        if exchange.status >= 400:
            return None, exchange.error or _refusal(exchange.status, content), False
        if exchange.is_stream or _looks_streamed(exchange, content):
            # SDKs stop reading at the last event, not at the last byte
            is_whole = exchange.dialect.stream_end.search(content) is not None
            reply, problem = _streamed_reply(exchange, content)
            return reply, exchange.error or problem, is_whole
        reply, problem = _plain_reply(exchange, content)
        return reply, exchange.error or problem, False
    except (DataError, zlib.error) as unreadable:
        problem = f"the answer cannot be read as {exchange.dialect.name}: {unreadable}"
        return None, exchange.error or problem, False


def _looks_streamed(exchange: Exchange, content: bytes) -> bool:
    """For servers, and proxies before them, that do not say so."""
    if content.startswith(exchange.dialect.stream_starts):
        return True
    is_lines = not exchange.dialect.stream_starts and b"\n{" in content
    return is_lines and len(list(islice(exchange.dialect.events(content), 2))) == 2


def _plain_reply(exchange: Exchange, content: bytes) -> tuple[Reply | None, str | None]:
    if exchange.is_partial:
        return None, f"the answer was not read to its end (it has {len(content)} bytes)"
    body = decode_object(content)
    return exchange.dialect.reply(body), exchange.dialect.failure(body)


def _streamed_reply(exchange: Exchange, content: bytes) -> tuple[Reply | None, str | None]:
    events = list(exchange.dialect.events(content))
    if not events:
        return None, None if exchange.is_partial else "the stream ended without an event"
    problem = next(filter(None, map(exchange.dialect.failure, events)), None)
    return exchange.dialect.assemble(events), problem


def _content(exchange: Exchange) -> bytes:
    content = b"".join(tuple(exchange.chunks))
    if exchange.decompress is not None:
        return exchange.decompress(content)
    if content.startswith(_GZIP):  # read past the library's own decoding; a cut-off end is fine
        return zlib.decompressobj(wbits=31).decompress(content)
    return content


def _refusal(status: int, content: bytes) -> str:
    try:
        message = _message_of(decode_object(content))
    except DataError:
        message = content[:200].decode("utf-8", "replace")
    return f"HTTP {status}: {message}"


def _message_of(body: Body) -> str:
    error: Any = body.get("error", body)
    return str(error.get("message", error) if isinstance(error, dict) else error)


def _without_secrets(call: Call | None, reply: Reply | None, error: str | None, secrets: list[bytes]) -> _Told:
    """Looked for in the finished parts: a stream may have a key in pieces."""
    if error is not None:  # libraries put what they like into theirs
        error = error.encode("utf-8", "replace").decode()
    told = msgspec.json.encode((call, reply, error)) if secrets else b""
    if not any(secret in told for secret in secrets):
        return call, reply, error
    call, reply, error = msgspec.json.decode(without(secrets, told), type=_Told)
    if reply is not None:  # token ids would still spell it
        reply = msgspec.structs.replace(reply, prompt_ids=None, completion_ids=None, logprobs=None)
    return call, reply, error


def _retry_count(headers: Mapping[Any, Any]) -> int:
    value = str(headers.get("x-stainless-retry-count", ""))
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0


def _without_query(url: str) -> str:
    """Scheme, host and path: a query or user part may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
