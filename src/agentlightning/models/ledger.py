"""What a run has spent so far, counted from any thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Literal

import msgspec

from agentlightning.data.call import Usage
from agentlightning.models.prices import price

Role = Literal["task", "optimizer", "judge"]
"""task: the agent's own model calls. optimizer and judge: ours."""


class Cost(msgspec.Struct, frozen=True, omit_defaults=True):
    """Calls, tokens and money. `calls` is the sum of the three roles, failed calls included."""

    calls: int = 0
    task_calls: int = 0
    optimizer_calls: int = 0
    judge_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float | None = None
    """The sum over the calls whose price is known; None when no call had one."""
    unpriced_calls: int = 0
    """Answered calls that are missing from `usd`: the model's price or the token count was not known."""

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Ledger:
    """Adds up calls. `start` is what an interrupted run had already spent; `overrides` as in `prices.price`."""

    def __init__(
        self,
        *,
        overrides: Mapping[str, tuple[float, float, float]] | None = None,
        start: Cost | None = None,
        parent: Ledger | None = None,
    ) -> None:
        """`parent` counts what this one counts, too, and lends its prices."""
        self._overrides = dict(overrides or (parent._overrides if parent else {}))
        self._parent = parent
        self._cost = start or Cost()
        self._lock = threading.Lock()

    def add(self, role: Role, model: str, usage: Usage | None, *, is_ours: bool = False) -> float | None:
        """Count an answered call, and return its price in USD (None when it is not known).

        `is_ours`: an engine on this machine answered, so nobody bills it.
        """
        usd = 0.0 if is_ours else price(model, usage, self._overrides) if usage is not None else None
        if self._parent is not None:
            self._parent.add(role, model, usage, is_ours=is_ours)
        with self._lock:
            before = self._counted(role)
            self._cost = msgspec.structs.replace(
                before,
                input_tokens=before.input_tokens + (usage.input_tokens if usage else 0),
                output_tokens=before.output_tokens + (usage.output_tokens if usage else 0),
                usd=before.usd if usd is None else (before.usd or 0.0) + usd,
                unpriced_calls=before.unpriced_calls + (usd is None),
            )
        return usd

    def add_job(self, usd: float | None) -> None:
        """Count a provider's training job: money, and no call. None: its price is not known."""
        if self._parent is not None:
            self._parent.add_job(usd)
        with self._lock:
            cost = self._cost
            total = cost.usd if usd is None else (cost.usd or 0.0) + usd
            self._cost = msgspec.structs.replace(cost, usd=total, unpriced_calls=cost.unpriced_calls + (usd is None))

    def add_failed(self, role: Role) -> None:
        """Count a call that was sent and brought no answer: it uses up a call, and no provider bills it."""
        if self._parent is not None:
            self._parent.add_failed(role)
        with self._lock:
            self._cost = self._counted(role)

    def snapshot(self) -> Cost:
        """What was spent until now."""
        with self._lock:
            return self._cost

    def _counted(self, role: Role) -> Cost:
        name = f"{role}_calls"
        return msgspec.structs.replace(self._cost, calls=self._cost.calls + 1, **{name: getattr(self._cost, name) + 1})
