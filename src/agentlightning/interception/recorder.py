"""Keeps what a rollout does, in the order it began, without ever making the agent wait.

Entries are opened by the agent's threads and turned into steps by whoever asks, off those threads. `on_end` hears of
each finished entry at once and must only hand it on (to a queue).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from agentlightning.data.record import new_id
from agentlightning.data.trajectory import Step, StepKind
from agentlightning.interception.dialects.base import Dialect
from agentlightning.interception.exchange import Exchange


class Entry(Protocol):
    """Anything that happened in a rollout and becomes one step."""

    index: int

    def to_step(self, rollout_id: str, step_id: str) -> Step: ...


class Span:
    """An inner call (a tool, a function) while it runs and after."""

    def __init__(
        self,
        *,
        index: int,
        kind: StepKind,
        agent: str,
        name: str,
        arguments: Any,
        on_end: Callable[[Span], None] | None,
    ) -> None:
        self.index = index
        self.kind: StepKind = kind
        self.agent = agent
        self.name = name
        self.arguments = plain(arguments)
        self.result: Any = None
        self.error: str | None = None
        self.latency_seconds: float | None = None
        self.started_at = time.time()
        self._t0 = time.perf_counter()
        self._on_end = on_end

    def end(self, result: Any = None, error: BaseException | None = None) -> None:
        """The inner call returned, or raised."""
        self.latency_seconds = time.perf_counter() - self._t0
        self.result = plain(result)
        self.error = f"{type(error).__name__}: {error}" if error is not None else None
        if self._on_end is not None:
            self._on_end(self)

    def to_step(self, rollout_id: str, step_id: str) -> Step:
        return Step(
            id=step_id,
            rollout_id=rollout_id,
            index=self.index,
            kind=self.kind,
            agent=self.agent,
            started_at=self.started_at,
            latency_seconds=self.latency_seconds,
            name=self.name,
            arguments=self.arguments,
            result=self.result,
            error=self.error,
            is_partial=self.latency_seconds is None,
        )


class Recorder:
    """The entries of one rollout. Appending is atomic, so no lock is held on the agent's threads."""

    def __init__(
        self, rollout_id: str | None = None, *, on_end: Callable[[Recorder, Entry], None] | None = None
    ) -> None:
        self.rollout_id = rollout_id or new_id("r")
        self.entries: list[Entry] = []
        self._indices = itertools.count()
        self._on_end = on_end

    def open_call(self, *, agent: str, dialect: Dialect, url: Any, headers: Mapping[str, str], body: bytes) -> Exchange:
        """A model call is about to leave."""
        entry = Exchange(
            index=next(self._indices),
            agent=agent,
            dialect=dialect,
            url=url,
            headers=headers,
            body=body,
            on_end=self._ended,
        )
        self.entries.append(entry)
        return entry

    def open_span(self, *, kind: StepKind, agent: str, name: str, arguments: Any) -> Span:
        """An inner function or tool begins."""
        entry = Span(
            index=next(self._indices), kind=kind, agent=agent, name=name, arguments=arguments, on_end=self._ended
        )
        self.entries.append(entry)
        return entry

    def exchanges(self) -> list[Exchange]:
        """The model calls so far."""
        return [entry for entry in list(self.entries) if isinstance(entry, Exchange)]

    def step(self, entry: Entry) -> Step:
        """One entry as a step; its id is stable, so a step written early and again later is the same record."""
        return entry.to_step(self.rollout_id, f"{self.rollout_id}.{entry.index}")

    def steps(self) -> list[Step]:
        """Everything so far, in order of beginning. Entries still open come out marked partial."""
        return [self.step(entry) for entry in sorted(self.entries, key=lambda entry: entry.index)]

    def _ended(self, entry: Entry) -> None:
        if self._on_end is not None:
            self._on_end(self, entry)


def plain(value: Any) -> Any:
    """A JSON-able snapshot of a value, taken now: what JSON cannot say becomes its text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=repr))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        return repr(value)
