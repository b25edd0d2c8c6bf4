"""What a store holds, as short rows in memory, brought up to date by cursor: a page costs only what is new.

Whole rollouts, with their steps, are read when somebody opens one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from agentlightning.data.record import Record
from agentlightning.store.base import Cursor, Store
from agentlightning.store.liveness import status_of

OUTSIDE = ""
"""The run of rollouts that belong to none: collected live, or imported."""
_EXCERPT_CHARACTERS = 160


class RolloutRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A rollout as one line of a list. Texts are excerpts; `calls` is None until its features were read out of it."""

    id: str
    run: str
    stage: str
    split: str
    agent: str
    policy: str
    task: str
    status: str
    reward: float | None
    seconds: float | None
    at: float
    calls: int | None
    usd: float | None
    tokens: int
    tags: str
    """Names of its error tags, comma between."""
    input: str
    output: str
    why: str
    """What the reward's source said, or the error."""

    @property
    def badness(self) -> tuple[bool, float]:
        """Failed ones first, then the lowest rewards, then what nobody judged."""
        return self.status not in ("failed", "timeout"), float("inf") if self.reward is None else self.reward


class RunRow(msgspec.Struct, kw_only=True):
    """A run: what its records say (later ones over earlier ones), and its rollouts by id."""

    id: str
    body: dict[str, Any] = {}
    rollouts: dict[str, RolloutRow] = {}
    last_at: float = 0.0
    """When it last wrote anything that is kept here, by its own clock; a sign of life."""
    begun: dict[str, int] = {}
    """Rollouts that have not ended → how many steps they have; followed only while the run says that it runs."""
    steps_cursor: Cursor | None = None


class Catalogue:
    """The rows of a store. `refresh` first, then read `runs`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: dict[str, RunRow] = {}
        self._cursor: Cursor | None = None
        self._lock = asyncio.Lock()

    async def refresh(self) -> None:
        """Take in what was appended since the last time."""
        async with self._lock:
            async for stored in self.store.read(("run", "rollout"), since=self._cursor):
                self._take(stored.record)
                self._cursor = stored.cursor

    async def in_flight(self, run: RunRow) -> dict[str, int]:
        """Rollouts of a running run that have steps and no end → how many steps."""
        if status_of(run.body) != "running":
            run.begun = {}
            return {}
        async with self._lock:
            async for stored in self.store.read("step", {"run": run.id}, since=run.steps_cursor):
                rollout = stored.record.rollout
                run.begun[rollout] = run.begun.get(rollout, 0) + 1
                run.steps_cursor = stored.cursor
            run.begun = {id: count for id, count in run.begun.items() if id not in run.rollouts}
            return run.begun

    def _take(self, record: Record) -> None:
        run = self.runs.get(record.run)
        if run is None:
            run = self.runs[record.run] = RunRow(id=record.run)
        run.last_at = max(run.last_at, record.time)
        if record.kind == "run":
            run.body |= record.body
        else:
            run.rollouts[record.id] = _row(record)


class Sums(msgspec.Struct, kw_only=True):
    """Rollouts counted together."""

    rollouts: int = 0
    judged: int = 0
    failed: int = 0
    mean: float | None = None
    """Of the rewards there are."""
    usd: float | None = 0.0
    """None when the price of one is not known."""
    tokens: int = 0
    calls: int = 0


def sums(rows: Iterable[RolloutRow]) -> Sums:
    """How many, how good, what they cost."""
    found, total = Sums(), 0.0
    for row in rows:
        found.rollouts += 1
        found.failed += row.status in ("failed", "timeout")
        found.tokens += row.tokens
        found.calls += row.calls or 0
        found.usd = None if found.usd is None or row.usd is None else found.usd + row.usd
        if row.reward is not None:
            found.judged += 1
            total += row.reward
    found.mean = total / found.judged if found.judged else None
    return found


def sums_by(rows: Iterable[RolloutRow], field: str) -> dict[str, Sums]:
    """The same for each value of a field, in the order they came up."""
    parts: defaultdict[str, list[RolloutRow]] = defaultdict(list)
    for row in rows:
        parts[getattr(row, field)].append(row)
    return {value: sums(part) for value, part in parts.items()}


def _row(record: Record) -> RolloutRow:
    body = record.body
    features: dict[str, Any] = body.get("features") or {}
    usage: dict[str, Any] = body.get("usage") or {}
    said = next((r["reason"] for r in body.get("rewards") or [] if r.get("reason") and not r.get("is_metric")), "")
    return RolloutRow(
        id=record.id,
        run=record.run,
        stage=body.get("stage") or "",
        split=body.get("split") or "train",
        agent=body.get("agent_id") or "",
        policy=body.get("policy_id") or "",
        task=body.get("task") or "",
        status=body.get("status") or "succeeded",
        reward=body.get("reward"),
        seconds=body.get("seconds"),
        at=body.get("timestamp") or record.time,
        calls=features.get("num_model_calls"),
        usd=body.get("usd"),
        tokens=usage.get("input_tokens", 0) + usage.get("output_tokens", 0),
        tags=", ".join(tag["name"] for tag in features.get("error_tags") or []),
        input=excerpt(body.get("input")),
        output=excerpt(body.get("output")),
        why=excerpt(body.get("error") or said),
    )


def excerpt(value: Any) -> str:
    """The beginning of a text, or of a value as JSON."""
    text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    return text if len(text) <= _EXCERPT_CHARACTERS else f"{text[:_EXCERPT_CHARACTERS]}…"
