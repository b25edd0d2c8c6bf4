"""Where a transport asks: is this a model call of a rollout, and what should really be sent?

Order matters: the scope must admit the call (budget, not closed) before anything is recorded; the record is opened
before the request leaves; steering works on a parsed copy, so a request nobody changes keeps its very bytes.
A scope's responder may answer a call itself; nothing is sent then.
The real send runs outside any scope: a transport used underneath another one then has nothing to record twice.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

import msgspec

from agentlightning.data.call import Call
from agentlightning.errors import ConfigError, DataError
from agentlightning.interception.answering import Answer, ask, given, refused
from agentlightning.interception.dialects import dialect_of
from agentlightning.interception.dialects.base import Body, decode_object
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.fingerprint import speaker_by_prompt
from agentlightning.interception.scope import Scope, current_scope, current_speaker, entered

Response = TypeVar("Response")
_ABSENT = object()
_unrecorded = partial(Exchange, index=0, is_recorded=False)
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def is_watched(client: Any) -> bool:
    """Is there anything to do for a request of this client? The question every transport asks first."""
    return current_scope() is not None and not getattr(client, "agentlightning_own", False)


def begin(method: str, path: str, url: Any, headers: Mapping[Any, Any], body: bytes | None) -> Exchange | None:
    """An exchange whose `body` is what to send, or None: not ours, send it untouched.

    Raises RolloutStopped when the scope has ended or the budget is spent; the call is then not sent.
    """
    scope = current_scope()
    if scope is None or method != "POST" or body is None or (dialect := dialect_of(path, body)) is None:
        return None
    scope.admit()
    opened = scope.recorder.open_call if scope.recorder is not None else _unrecorded
    agent = current_speaker() or speaker_by_prompt(scope.agent, dialect, body, path) or scope.agent
    exchange = opened(agent=agent, dialect=dialect, url=url, headers=headers, body=body)
    exchange.path, exchange.policy_id = path, scope.outermost.policy.id
    try:
        _prepare(exchange, scope)
    except BaseException as error:
        exchange.fail(error)
        raise
    is_ours = exchange.is_recorded or exchange.is_changed or exchange.answering is not None
    return exchange if is_ours else None


def answered(exchange: Exchange) -> Answer | None:
    """Our own answer to the call, waited for on this thread; None: there is none, send the call."""
    if exchange.answering is None:
        return None
    try:
        return given(exchange, exchange.answering.result())
    except Exception as error:  # noqa: BLE001 - told to the agent, as a provider's error would be
        return refused(exchange, error)
    except BaseException as error:
        exchange.fail(error)
        raise


async def answered_async(exchange: Exchange) -> Answer | None:
    """As `answered`, without holding up the loop. When the agent gives up waiting, the responder is told."""
    if exchange.answering is None:
        return None
    try:
        return given(exchange, await asyncio.wrap_future(exchange.answering))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():  # not we were cancelled, but the answer
            return refused(exchange, CancelledError())
        exchange.fail(error)
        raise
    except Exception as error:  # noqa: BLE001 - told to the agent, as a provider's error would be
        return refused(exchange, error)
    except BaseException as error:
        exchange.fail(error)
        raise


def deliver(exchange: Exchange, send: Callable[[], Response], read: Callable[[Response], bytes]) -> Response:
    """Send what the exchange wants sent, once more without asking for usage where the endpoint refuses to be asked.

    `send` sends and tells the exchange what `answered`; `read` gives the whole body of a refusal.
    """
    try:
        with entered(None):
            response = send()
            if exchange.may_refuse_usage() and b"stream_options" in read(response):
                exchange.forget_usage()
                response = send()
    except BaseException as error:
        exchange.fail(error)
        raise
    return response


async def deliver_async(
    exchange: Exchange, send: Callable[[], Awaitable[Response]], read: Callable[[Response], Awaitable[bytes]]
) -> Response:
    """As `deliver`."""
    try:
        with entered(None):
            response = await send()
            if exchange.may_refuse_usage() and b"stream_options" in await read(response):
                exchange.forget_usage()
                response = await send()
    except BaseException as error:
        exchange.fail(error)
        raise
    return response


def _prepare(exchange: Exchange, scope: Scope) -> None:
    try:
        if scope.is_steering:
            _steer(exchange, scope)
        if exchange.answering is None and exchange.is_recorded and b'"stream"' in exchange.body:
            exchange.ask_usage()
    except DataError:
        # Not a request of this dialect after all: the provider will say so to the agent, and so does the record.
        return


def _steer(exchange: Exchange, scope: Scope) -> None:
    body = decode_object(exchange.body)
    before = exchange.dialect.call(body, exchange.agent, exchange.path)
    after = before
    for each in scope.line:
        after = _steered(exchange, each, after)
    for each in scope.line:
        if each.responder is not None and ask(exchange, each, body, after):
            return
    if after.model != before.model:
        _check_model(exchange, before, after)
    exchange.body = _rewritten(exchange.body, body, exchange.dialect.rewrite(body, before, after))


def _check_model(exchange: Exchange, before: Call, after: Call) -> None:
    """At Azure the path names the model, whatever the body says: another one would be asked for and never be used."""
    if "/deployments/" in exchange.path:
        raise ConfigError(
            f"the policy sends agent {exchange.agent!r} to model {after.model!r}, but its client has the deployment "
            f"{before.model!r} in its address, and Azure answers with that one. Name the deployment where the client "
            f"is made, or leave {exchange.agent!r} out of the policy's models."
        )


def _steered(exchange: Exchange, scope: Scope, call: Call) -> Call:
    if scope.predict is not None:
        return scope.predict(call, scope.policy)
    applied = scope.policy.apply(call)
    exchange.steered += applied.steered
    exchange.missed += applied.missed
    for site_id in applied.missed:
        _count_miss(scope, site_id)
    return applied.call


def _rewritten(content: bytes, body: Body, changed: Body) -> bytes:
    """The bytes of `changed`; fields it shares with `body` keep theirs (and their place) in `content`."""
    edits = {
        key: value for key, value in changed.items() if (old := body.get(key, _ABSENT)) is not value and old != value
    }
    gone = [key for key in body if key not in changed]
    if not edits and not gone:
        return content
    fields: dict[str, Any] = _decode_fields(content) | edits
    for key in gone:
        del fields[key]
    return msgspec.json.encode(fields)


def _count_miss(scope: Scope, site_id: str) -> None:
    scope.missed[site_id] = scope.missed.get(site_id, 0) + 1
    if scope.missed[site_id] == 1 and scope.recorder is None:
        warnings.warn(
            f"the prompt at {site_id} no longer looks like the one that was optimised, so this call goes out as it is. "
            "Optimise again, or stop using the policy (agent.use(None)).",
            stacklevel=2,
        )
