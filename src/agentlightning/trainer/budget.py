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

_BY_ANSWER = ("usd", "tokens", "minutes")
"""Caps on what is known only when a call has been answered."""

_OTHERS: dict[Role, str] = {"task": "optimizer_calls", "optimizer": "task_calls", "judge": "task_calls"}
"""The cap that a call of a role does not count for."""


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
    """What was spent and what is left. `reserved_calls` are kept back for the held-out test until it begins, of every
    cap: in tokens, money and time as many as so many calls have taken on average.

    A budget with a `parent` is a part of it, such as a stage's: what it spends, the parent spends, by both their caps.
    """

    def __init__(self, limits: Limits, ledger: Ledger, parent: Budget | None = None, *, max_in_flight: int = 1) -> None:
        """`max_in_flight` rollouts share the time."""
        self.limits = limits
        self._caps = [(name, cap) for name, cap in msgspec.structs.asdict(limits).items() if cap is not None]
        self.ledger = ledger
        self.parent = parent
        self.reserved_calls = 0
        self.started_at = time.monotonic()
        self.stop_reason: str | None = None
        """Why nothing more may begin. Where only our own models' calls are spent, rollouts go on."""
        self.first_reason: str | None = None
        """The cap that was reached first."""
        self.num_rollouts = 0
        self.num_rollout_calls = 0
        self._taken = dict.fromkeys(_BY_ANSWER, 0.0)
        """By rollouts, of each cap that is not on calls."""
        self._least: dict[str, float] = {}
        self._max_in_flight = max_in_flight
        self._admitted: dict[Role, int] = {"task": 0, "optimizer": 0, "judge": 0}
        self._lock = threading.Lock()

    def admit(self, role: Role) -> None:
        """Count one more call, or raise BudgetExhausted naming the cap."""
        with self._lock:
            if reason := self._exceeded(role):
                self.first_reason = self.first_reason or reason
                self.stop_reason = self.stop_reason or self._exceeded("task")
                raise BudgetExhausted(reason)
            if self.parent is not None:
                self.parent.admit(role)
            self._admitted[role] += 1

    def part(self, limits: Limits) -> Budget:
        """A budget of its own within this one."""
        return Budget(limits, Ledger(parent=self.ledger), self, max_in_flight=self._max_in_flight)

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
                self.first_reason = self.first_reason or reason
                raise BudgetExhausted(reason)

    def stop(self, reason: str) -> None:
        """Let nothing more begin: the user asked for the end."""
        with self._lock:
            self.stop_reason = self.stop_reason or reason
            self.first_reason = self.first_reason or reason

    def reserve(self, num_calls: int) -> None:
        """Keep back so many calls, and what they take: on average, but not less than until now."""
        with self._lock:
            self.reserved_calls, self._least = num_calls, self._per_call()

    def begin_final_test(self) -> None:
        """The search is over: release what was reserved for the test."""
        self.reserved_calls = 0
        self.stop_reason = None

    def rollout_ended(self, num_calls: int, *, seconds: float = 0.0, tokens: int = 0, usd: float = 0.0) -> None:
        """Learn what a rollout costs."""
        if self.parent is not None:
            self.parent.rollout_ended(num_calls, seconds=seconds, tokens=tokens, usd=usd)
        with self._lock:
            self.num_rollouts += 1
            self.num_rollout_calls += num_calls
            taken = {"minutes": seconds / 60 / self._max_in_flight, "tokens": tokens, "usd": usd}
            self._taken = {name: self._taken[name] + taken[name] for name in _BY_ANSWER}

    @property
    def calls_per_rollout(self) -> float:
        if not self.num_rollouts:
            return self.parent.calls_per_rollout if self.parent is not None else 1.0
        return max(1.0, self.num_rollout_calls / self.num_rollouts)

    @property
    def calls_left(self) -> float:
        """Calls the search may still make by the caps on calls, and, going by what calls have taken so far, on tokens
        and money; infinity without a cap."""
        spent, cost, mean = sum(self._admitted.values()), self.ledger.snapshot(), self._per_call()
        caps = [
            (self.limits.calls, spent, 1.0),
            (self.limits.task_calls, self._admitted["task"], 1.0),
            (self.limits.usd, cost.usd or 0.0, mean["usd"]),
            (self.limits.tokens, cost.input_tokens + cost.output_tokens, mean["tokens"]),
        ]
        own = min(self._calls_within(*cap) for cap in caps)
        return min(own, self.parent.calls_left) if self.parent is not None else own

    @property
    def calls_affordable(self) -> float:
        """The same by the cap on minutes, too. No search is planned by that: it is not the same twice."""
        in_time = self._calls_within(self.limits.minutes, self._minutes, self._per_call()["minutes"])
        own = min(self.calls_left, in_time)
        return min(own, self.parent.calls_affordable) if self.parent is not None else own

    def _calls_within(self, limit: float | None, used: float, per_call: float) -> float:
        if limit is None or not per_call:
            return float("inf")
        return max(0.0, (limit - used) / per_call - self.reserved_calls)

    def _per_call(self) -> dict[str, float]:
        """What a rollout's call has taken on average, of each cap that is not on calls; nothing while none was made."""
        num_calls = max(1, self.num_rollout_calls)
        return {name: max(self._taken[name] / num_calls, self._least.get(name, 0.0)) for name in _BY_ANSWER}

    @property
    def _minutes(self) -> float:
        return (time.monotonic() - self.started_at) / 60

    def describe(self) -> str:
        """The caps in words."""
        named = {name: value for name, value in msgspec.structs.asdict(self.limits).items() if value is not None}
        return ", ".join(f"{name} ≤ {value:g}" for name, value in named.items()) or "no cap"

    def _exceeded(self, role: Role) -> str | None:
        """Asked at every call, from the agent's threads, so only what is capped is looked at."""
        for name, limit in self._caps:
            if name == _OTHERS[role]:
                continue
            kept = self._kept(name) if self.reserved_calls else 0.0
            used = self._used(name)
            if used >= max(0, limit - kept):
                reserve = f" (and {_amount(kept)} kept for the held-out test)" if kept else ""
                return f"the budget of {name} is spent: {_amount(used)} of {_amount(max(0, limit - kept))}{reserve}"
        return None

    def _kept(self, name: str) -> float:
        """What is reserved of a cap."""
        if name == "optimizer_calls":
            return 0.0
        return self.reserved_calls * (self._per_call()[name] if name in _BY_ANSWER else 1.0)

    def _used(self, name: str) -> float:
        if name == "minutes":
            return self._minutes
        if name in ("usd", "tokens"):
            return getattr(self.ledger.snapshot(), name) or 0.0
        admitted = self._admitted
        of_others = 0 if name == "task_calls" else admitted["optimizer"] + admitted["judge"]
        return of_others + (0 if name == "optimizer_calls" else admitted["task"])


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


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def limits_from(given: Any) -> Limits:
    """Limits from a mapping of the config's words; absent ones are no cap."""
    return msgspec.convert({key: value for key, value in dict(given or {}).items() if value is not None}, Limits)
