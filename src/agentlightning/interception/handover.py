"""How a program in another process takes part in a rollout: through its environment, whatever language it is in.

Whoever owns a gateway implements `Handover`; the run gives its own to every scope. A scope without one (an optimised
agent in production) gets the process's, which the room above registers by name and starts when first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Protocol

from agentlightning.errors import RolloutStopped
from agentlightning.interception.scope import Scope
from agentlightning.registry import Registry

_HANDOVERS = Registry("handover", {"loopback": "agentlightning.gateway.handover:LoopbackHandover"})
_lock = threading.Lock()
_own: list[Handover] = []


class Passage(Protocol):
    """One scope's way to its models, for programs in other processes."""

    @property
    def stopped(self) -> RolloutStopped | None:
        """Why the rollout must not go on, once a call was turned down for it."""
        ...

    def environment(self, before: Mapping[str, str]) -> dict[str, str]:
        """The environment of such a program, given the one it would have had: no key of a provider is left in it.

        Its calls go on to where that one would have led them. An environment that leads here already stays as it is.
        """
        ...

    def close(self) -> None:
        """The programs have ended. What still calls is turned down."""
        ...


class Handover(Protocol):
    """Opens passages."""

    def open(self, scope: Scope) -> Passage: ...


def passage_of(scope: Scope) -> Passage:
    """The scope's passage, opened when it is first needed; it lives as long as the scope does, and closes with it.

    A rollout has one address, so programs that a guest in it starts take the rollout's.
    """
    if scope.recorder is not None:
        scope = scope.outermost
    with _lock:
        if scope.passage is None:
            scope.passage = _handover_of(scope).open(scope)
        return scope.passage


def _handover_of(scope: Scope) -> Handover:
    if scope.handover is not None:
        return scope.handover
    if not _own:
        _own.append(_HANDOVERS.load("loopback")())
    return _own[0]
