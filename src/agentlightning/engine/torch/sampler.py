"""Samples all rows there are: a group for each weights' name, the groups in turns, a few steps at a time.

An error ends the rows it happened to and nothing else. When weights change under their name, rows that run under it go
on with the new ones: what they read so far is computed again. Nothing is lost, and every token keeps the logprob of the
weights that sampled it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from agentlightning.engine.torch.cache import Layout, layout_of
from agentlightning.engine.torch.group import Group, Limits
from agentlightning.engine.torch.memory import room
from agentlightning.engine.torch.prefixes import Pieces
from agentlightning.engine.torch.row import Row

if TYPE_CHECKING:
    from torch.nn import Module

_STEPS_PER_TURN = 8
"""Of a group, where several take turns."""
_FEW = 0.25
"""Of the rows that run: so few new ones wait for others, and are read together with them."""
_PATIENCE = 4
"""Steps that they wait at most."""
_REMEDY = "Lower max_rows or max_cache_bytes, or ask for shorter answers."


class Models(Protocol):
    """What a sampler asks of the library of weights."""

    def using(self, name: str, /) -> AbstractContextManager[Module]: ...


class Sampler:
    """One thread at a time, outside any block of `Models.using`."""

    def __init__(self, models: Models, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.num_read_tokens = 0
        """Tokens of prompts that were computed rather than taken over."""
        self._models = models
        self._groups: dict[str, Group] = {}
        self._waiting: dict[str, deque[Row]] = {}
        self._held: set[str] = set()
        self._waited: dict[str, int] = {}
        """Steps for which the rows that wait were too few."""
        self._pieces = Pieces(self.limits.max_cache_bytes)
        self._layout: Layout | None = None

    @property
    def is_ready(self) -> bool:
        """There is something to compute."""
        return bool(self._names())

    def add(self, row: Row, weights: str = "") -> None:
        """The row joins with the next step, or as soon as there is room."""
        self._waiting.setdefault(weights, deque()).append(row)

    def step(self) -> None:
        """A turn for every group that has rows."""
        names = self._names()
        for name in names:
            try:
                self._turn(name, _STEPS_PER_TURN if len(names) > 1 else 1)
            except Exception as error:  # noqa: BLE001 - told to those who asked
                self._fail(name, error)

    def hold(self, weights: str) -> None:
        """Rows under this name stand still: the weights are changing."""
        self._held.add(weights)

    def changed(self, weights: str) -> None:
        """The name means other weights now; its rows go on with them."""
        self._held.discard(weights)
        group = self._groups.pop(weights, None)
        if group is not None:
            self._pieces.drop_all(group.index)
            self._waiting.setdefault(weights, deque()).extendleft(reversed(group.rows))

    def forget(self, rollout_id: str) -> None:
        self._pieces.forget(rollout_id)

    def close(self, error: BaseException) -> None:
        """Every row ends with the error."""
        for name in {*self._groups, *self._waiting}:
            self._fail(name, error)

    def _names(self) -> list[str]:
        names = [name for name, group in self._groups.items() if group.rows]
        names += [name for name, waiting in self._waiting.items() if waiting and name not in names]
        return [name for name in names if name not in self._held]

    def _turn(self, name: str, num_steps: int) -> None:
        import torch

        with self._models.using(name) as model, torch.inference_mode(), room("sampling", _REMEDY):
            group = self._group(name, model)
            if self._are_enough(name, group):
                self._admit(group, model, self._waiting[name])
            for _ in range(num_steps):
                if not group.rows:
                    break
                self._end(group, group.step(model))
            self._drop_cancelled(group)

    def _group(self, name: str, model: Any) -> Group:
        if self._layout is None:
            self._layout = layout_of(model)
        if name not in self._groups:
            self._drop_idle()
            self._groups[name] = Group(model, self._layout, self.limits, self._pieces)
        return self._groups[name]

    def _drop_idle(self) -> None:
        """Groups that have nothing to do make room; what their rows left behind stays."""
        for group in self._groups.values():
            if not group.rows:
                group.release()

    def _are_enough(self, name: str, group: Group) -> bool:
        """Whether to read new rows now: a pass costs small models much the same for one row as for many."""
        waited = self._waited.pop(name, 0)
        num_waiting = len(self._waiting.get(name) or ())
        if num_waiting and waited < _PATIENCE and num_waiting < _FEW * len(group.rows):
            self._waited[name] = waited + 1
            return False
        return num_waiting > 0

    def _admit(self, group: Group, model: Any, waiting: deque[Row]) -> None:
        rows = list[Row]()
        while waiting and len(rows) < group.num_free:
            row = waiting.popleft()
            if not row.is_cancelled():
                rows.append(row)
        if rows:
            before = group.num_read_tokens
            try:
                self._end(group, group.admit(model, rows))
            except Exception:
                group.rows += [row for row in rows if row not in group.rows]  # so that all hear of it
                raise
            self.num_read_tokens += group.num_read_tokens - before

    def _end(self, group: Group, ended: Sequence[Row]) -> None:
        if ended:
            group.leave(ended, keep=True)
            for row in ended:
                row.on_end(row, None)

    def _drop_cancelled(self, group: Group) -> None:
        if cancelled := [row for row in group.rows if row.is_cancelled()]:
            group.leave(cancelled, keep=False)

    def _fail(self, name: str, error: BaseException) -> None:
        group = self._groups.pop(name, None)
        rows = [*(group.rows if group else ()), *self._waiting.pop(name, ())]
        if group is not None:
            self._pieces.drop_all(group.index)
        for row in rows:
            row.on_end(row, error)
