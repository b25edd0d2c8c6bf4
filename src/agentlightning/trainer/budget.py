"""Hard caps on what a run may spend, checked before every call, shared by every thread that makes one.

Calls are counted when they leave; tokens and money when the answer is read, so those two caps can be overshot by the
calls in flight, never by more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from agentlightning.errors import BudgetExhausted
from agentlightning.models.ledger import Ledger, Role


class Limits(msgspec.Struct, frozen=True):
    """The caps; None means no cap. `calls` counts task, optimiser and judge calls together."""

    usd: float | None = None
    calls: int | None = None
    task_calls: int | None = None
    optimizer_calls: int | None = None
    """Optimiser and judge calls together."""
    tokens: int | None = None
    minutes: float | None = None


class Budget:
    """What was spent and what is left. `reserved_calls` are kept back for the held-out test until it begins.

    A budget with a `parent` is a part of it, such as a stage's: what it spends, the parent spends, by both their caps.
    """

    def __init__(self, limits: Limits, ledger: Ledger, parent: Budget | None = None) -> None:
        self.limits = limits
        self.ledger = ledger
        self.parent = parent
        self.reserved_calls = 0
        self.started_at = time.monotonic()
        self.stop_reason: str | None = None
        self.num_rollouts = 0
        self.num_rollout_calls = 0
        self._admitted: dict[Role, int] = {"task": 0, "optimizer": 0, "judge": 0}
        self._lock = threading.Lock()

    def admit(self, role: Role) -> None:
        """Count one more call, or raise BudgetExhausted naming the cap."""
        with self._lock:
            if reason := self._exceeded(role):
                self.stop_reason = self.stop_reason or reason
                raise BudgetExhausted(reason)
            if self.parent is not None:
                self.parent.admit(role)
            self._admitted[role] += 1

    def part(self, limits: Limits) -> Budget:
        """A budget of its own within this one."""
        return Budget(limits, Ledger(parent=self.ledger), self)

    def replayed(self, role: Role, num_calls: int) -> None:
        """Count calls that an interrupted part of this run had made."""
        if self.parent is not None:
            self.parent.replayed(role, num_calls)
        with self._lock:
            self._admitted[role] += num_calls

    def check(self) -> None:
        """Raise BudgetExhausted when nothing more may be started."""
        if self.parent is not None:
            self.parent.check()
        with self._lock:
            if reason := self.stop_reason or self._exceeded("task"):
                self.stop_reason = self.stop_reason or reason
                raise BudgetExhausted(reason)

    def stop(self, reason: str) -> None:
        """Let nothing more begin: the user asked for the end."""
        with self._lock:
            self.stop_reason = self.stop_reason or reason

    def begin_final_test(self) -> None:
        """The search is over: release what was reserved for the test."""
        self.reserved_calls = 0
        self.stop_reason = None

    def rollout_ended(self, num_calls: int) -> None:
        """Learn what a rollout costs."""
        if self.parent is not None:
            self.parent.rollout_ended(num_calls)
        with self._lock:
            self.num_rollouts += 1
            self.num_rollout_calls += num_calls

    @property
    def calls_per_rollout(self) -> float:
        if not self.num_rollouts:
            return self.parent.calls_per_rollout if self.parent is not None else 1.0
        return max(1.0, self.num_rollout_calls / self.num_rollouts)

    @property
    def calls_left(self) -> float:
        """Calls the search may still make, both totals considered; infinity without a cap."""
        spent = sum(self._admitted.values())
        caps = [
            limit - used
            for limit, used in ((self.limits.calls, spent), (self.limits.task_calls, self._admitted["task"]))
            if limit is not None
        ]
        own = max(0.0, min(caps) - self.reserved_calls) if caps else float("inf")
        return min(own, self.parent.calls_left) if self.parent is not None else own

    def describe(self) -> str:
        """The caps in words."""
        named = {name: value for name, value in msgspec.structs.asdict(self.limits).items() if value is not None}
        return ", ".join(f"{name} ≤ {value:g}" for name, value in named.items()) or "no cap"

    def _exceeded(self, role: Role) -> str | None:
        limits, cost = self.limits, self.ledger.snapshot()
        spent, helping = sum(self._admitted.values()), self._admitted["optimizer"] + self._admitted["judge"]
        minutes = (time.monotonic() - self.started_at) / 60
        checks: list[tuple[str, float | None, float]] = [
            ("calls", _less(limits.calls, self.reserved_calls), spent),
            ("usd", limits.usd, cost.usd or 0.0),
            ("tokens", limits.tokens, cost.input_tokens + cost.output_tokens),
            ("minutes", limits.minutes, minutes),
        ]
        if role == "task":
            checks.append(("task_calls", _less(limits.task_calls, self.reserved_calls), self._admitted["task"]))
        else:
            checks.append(("optimizer_calls", limits.optimizer_calls, helping))
        for name, limit, used in checks:
            if limit is not None and used >= limit:
                reserve = (
                    f" (and {self.reserved_calls} kept for the held-out test)"
                    if self.reserved_calls and "calls" in name
                    else ""
                )
                return f"the budget of {name} is spent: {used:g} of {limit:g}{reserve}"
        return None


_SPENDING: ContextVar[Budget | None] = ContextVar("agentlightning_budget", default=None)


@contextmanager
def spending(budget: Budget) -> Generator[None]:
    """What this block (and every task it starts) spends, it spends from `budget`."""
    token = _SPENDING.set(budget)
    try:
        yield
    finally:
        _SPENDING.reset(token)


def spent_from(whole: Budget) -> Budget:
    """The part of `whole` that the current stage spends from; `whole` itself outside any stage."""
    part = _SPENDING.get()
    return part if part is not None and part.parent is whole else whole


def _less(limit: int | None, reserved: int) -> int | None:
    return None if limit is None else max(0, limit - reserved)


def limits_from(given: Any) -> Limits:
    """Limits from a mapping of the config's words; absent ones are no cap."""
    return msgspec.convert({key: value for key, value in dict(given or {}).items() if value is not None}, Limits)
