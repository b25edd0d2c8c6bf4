"""Where a transport asks: is this a model call of a rollout, and what should really be sent?

Order matters: the scope must admit the call (budget, not closed) before anything is recorded; the record is opened
before the request leaves; steering works on a parsed copy, so a request nobody changes keeps its very bytes.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from agentlightning.errors import DataError
from agentlightning.interception.dialects import dialect_of
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, current_agent, current_scope

_IS_SENDING: ContextVar[bool] = ContextVar("agentlightning_is_sending", default=False)
_decode = msgspec.json.Decoder().decode


def begin(method: str, path: str, url: Any, headers: Mapping[str, str], body: bytes | None) -> Exchange | None:
    """An exchange whose `body` is what to send, or None: not ours, send it untouched.

    Raises RolloutStopped when the scope has ended or the budget is spent; the call is then not sent.
    """
    scope = current_scope()
    if scope is None or method != "POST" or body is None or _IS_SENDING.get():
        return None
    dialect = dialect_of(path)
    if dialect is None:
        return None
    scope.admit()
    recorder = scope.recorder or Recorder()
    agent = current_agent() or scope.agent
    exchange = recorder.open_call(agent=agent, dialect=dialect, url=url, headers=headers, body=body)
    exchange.policy_id = scope.policy.id
    try:
        if not scope.policy.is_original or scope.predict is not None:
            _steer(exchange, scope)
        if scope.recorder is not None and b'"stream"' in body:
            _ask_usage(exchange)
    except (DataError, msgspec.DecodeError, UnicodeDecodeError):
        # Not a request of this dialect after all: the provider will say so to the agent, and so does the record.
        exchange.body = exchange.original_body
    return exchange if scope.recorder is not None or exchange.is_changed else None


@contextmanager
def sending() -> Generator[None]:
    """Marks the real send, so that a transport used underneath another one does not record the call twice."""
    _IS_SENDING.set(True)
    try:
        yield
    finally:
        _IS_SENDING.set(False)


def _steer(exchange: Exchange, scope: Scope) -> None:
    body = _decode(exchange.body)
    before = exchange.dialect.call(body, exchange.agent)
    if scope.predict is not None:
        after = scope.predict(before, scope.policy)
    else:
        applied = scope.policy.apply(before)
        after, exchange.steered, exchange.missed = applied.call, applied.steered, applied.missed
        for site_id in applied.missed:
            _count_miss(scope, site_id)
    changed = exchange.dialect.rewrite(body, before, after)
    if changed != body:
        exchange.body = msgspec.json.encode(changed)


def _ask_usage(exchange: Exchange) -> None:
    changed = exchange.dialect.ask_usage(_decode(exchange.body))
    if changed is not None:
        exchange.has_asked_usage = True
        exchange.body = msgspec.json.encode(changed)


def _count_miss(scope: Scope, site_id: str) -> None:
    scope.missed[site_id] = scope.missed.get(site_id, 0) + 1
    if scope.missed[site_id] == 1 and scope.recorder is None:
        warnings.warn(
            f"the prompt at {site_id} no longer looks like the one that was optimised, so this call goes out as it is. "
            "Optimise again, or stop using the policy (agent.use(None)).",
            stacklevel=2,
        )
