"""Keeps what a rollout does, in the order it began, without ever making the agent wait.

Entries are opened by the agent's threads and turned into steps by whoever asks, off those threads. `on_end` hears of
each finished entry at once, once, and must only hand it on (to a queue); were it to raise, the agent would not notice.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from agentlightning.data.record import new_id
from agentlightning.data.trajectory import Step, StepKind
from agentlightning.interception.dialects.base import Dialect
from agentlightning.interception.endpoint import SeenEndpoint
from agentlightning.interception.exchange import Exchange

_log = logging.getLogger(__name__)


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
        self.is_partial = True
        self.is_simulated = False
        self.latency_seconds: float | None = None
        self.started_at = time.time()
        self._t0 = time.perf_counter()
        self._on_end = on_end

    def end(
        self,
        result: Any = None,
        error: BaseException | None = None,
        *,
        is_partial: bool = False,
        is_simulated: bool = False,
    ) -> None:
        """The inner call returned, or raised; partial: a generator that was not read to its end."""
        self.result = plain(result)
        self.error = f"{type(error).__name__}: {error}" if error is not None else None
        self.is_partial = is_partial
        self.is_simulated = is_simulated
        self.latency_seconds = time.perf_counter() - self._t0
        on_end, self._on_end = self._on_end, None  # or the recorder and its entries would hold each other
        if on_end is not None:
            on_end(self)

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
            is_partial=self.is_partial,
            is_simulated=self.is_simulated,
        )


class Elsewhere:
    """A step that another process recorded; `endpoint` is where its call went, when that one said so."""

    def __init__(self, step: Step, endpoint: SeenEndpoint | None) -> None:
        self.index = step.index
        self.endpoint = endpoint
        self._step = step

    def to_step(self, rollout_id: str, step_id: str) -> Step:
        return self._step


class Recorder:
    """The entries of one rollout. Appending is atomic, so no lock is held on the agent's threads."""

    def __init__(
        self, rollout_id: str | None = None, *, on_end: Callable[[Recorder, Entry], None] | None = None
    ) -> None:
        self.rollout_id = rollout_id or new_id("r")
        self.entries: list[Entry] = []
        self.num_lost = 0
        """Entries whose `on_end` failed."""
        self._indices = itertools.count()
        self._on_end = on_end

    def open_call(self, *, agent: str, dialect: Dialect, url: Any, headers: Mapping[Any, Any], body: bytes) -> Exchange:
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

    def add(self, step: Step, endpoint: SeenEndpoint | None = None) -> None:
        """A step of this rollout that was recorded in another process."""
        entry = Elsewhere(step, endpoint)
        self.entries.append(entry)
        self._ended(entry)

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
        if self._on_end is None:
            return
        try:
            self._on_end(self, entry)
        except Exception:  # noqa: BLE001 - a fault of ours, not the agent's: it is logged and counted
            self.num_lost += 1
            _log.exception("on_end failed for step %d of rollout %s", entry.index, self.rollout_id)


def plain(value: Any) -> Any:
    """A JSON-able snapshot of a value, taken now: what JSON cannot say becomes its text. Never raises."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=_described))
    except Exception:  # noqa: BLE001 - whatever the value's own methods raise
        return _repr(value)


def _described(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)  # pydantic
    return dump(mode="json") if callable(dump) and not isinstance(value, type) else _repr(value)


def _repr(value: Any) -> str:
    try:
        return repr(value).encode("utf-8", "replace").decode()
    except Exception as error:  # noqa: BLE001 - the user's own method
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
