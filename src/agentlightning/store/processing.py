"""Every consumer sees every rollout once: its place in the store is itself a record, moved on with what it wrote.

A consumer is a name ("features", "nightly-export"). What it changes is appended together with its new place, all or
none, so that a killed process neither loses a rollout nor leaves one half done.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from agentlightning.data.record import Record, make_record
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import ConfigError
from agentlightning.store.base import Cursor, Store, StoredRecord
from agentlightning.store.trajectories import read_trajectories
from agentlightning.store.versions import rewritten

BATCH = 64
"""Rollouts between two checkpoints: what a killed process does again at most."""

Handle = Callable[[Trajectory], Trajectory | Awaitable[Trajectory | None] | None]
"""Sync or async. A trajectory it returns takes the place of the one it was given (steps may change, none
may go); None leaves that as it is."""

_Key = tuple[str, str, str, float]


class Processed(msgspec.Struct, frozen=True):
    """What one pass did. `num_changed` of the `num_new` rollouts were recorded again."""

    num_new: int
    num_changed: int
    cursor: Cursor | None
    """Where the next pass begins; None while there was never anything."""


async def process_new(store: Store, consumer: str, handle: Handle) -> Processed:
    """Give `handle` every rollout recorded, recorded again or rated since this consumer's last pass, each once.

    A rollout comes whole, in its latest state. A second pass with nothing new handles nothing. What a consumer writes
    is new to the other consumers, not to itself. An exception from `handle` ends the pass; finished batches of `BATCH`
    rollouts stay done. Feedback is never rewritten. ConfigError for an empty name.
    """
    if not consumer.strip():
        raise ConfigError("a consumer needs a name, such as 'features': its place in the store is kept under it.")
    run = _Pass(store, f"consumer:{consumer}", handle)
    await run.restore()
    while await run.advance():
        pass
    return Processed(run.num_new, run.num_changed, run.cursor)


class _Pass:
    def __init__(self, store: Store, checkpoint: str, handle: Handle) -> None:
        self.num_new = self.num_changed = 0
        self.cursor: Cursor | None = None
        self._store = store
        self._checkpoint = checkpoint
        self._handle = handle
        self._own: set[_Key] = set()
        self._kept: Cursor | None = None

    async def restore(self) -> None:
        async for stored in self._store.read("checkpoint", {"id": self._checkpoint}, newest_first=True, limit=1):
            self.cursor = self._kept = Cursor(stored.record.body["cursor"])

    async def advance(self) -> bool:
        """Handle what is there now. False when nothing was written meanwhile, so that the pass is over."""
        seen: set[str] = set()
        batch: list[str] = []
        async for stored in self._store.read(("rollout", "feedback"), since=self.cursor):
            self.cursor = stored.cursor
            id = stored.record.rollout or stored.record.id
            if _key(stored) in self._own or id in seen:
                continue
            seen.add(id)
            batch.append(id)
            if len(batch) == BATCH:
                await self._do(batch)
                batch = []
        await self._do(batch)
        return bool(seen)

    async def _do(self, ids: Sequence[str]) -> None:
        """One batch: hand over, and append what changed with the new place. Own echoes alone still move the place."""
        changed: list[Record] = []
        if ids:
            latest = {
                stored.record.id: stored.record async for stored in self._store.read("rollout", {"id": list(ids)})
            }
            async for trajectory in read_trajectories(self._store, {"id": list(ids)}):
                self.num_new += 1
                written = await self._changes(latest[trajectory.id], trajectory)
                self.num_changed += bool(written)
                changed += written
        if self.cursor is not None and self.cursor != self._kept:
            place = make_record("checkpoint", self._checkpoint, {"cursor": self.cursor})
            await self._store.append([*changed, place])
            self._kept = self.cursor
        self._own |= {(record.kind, record.id, record.rollout, record.time) for record in changed}

    async def _changes(self, record: Record, given: Trajectory) -> list[Record]:
        returned = self._handle(given)
        new = await returned if inspect.isawaitable(returned) else returned
        if new is None or new == given:
            return []
        # Feedback stands behind the recorded rewards and keeps its own records.
        rewards = new.rewards[: len(record.body.get("rewards", []))]
        rollout = rewritten(record, msgspec.structs.replace(new, rewards=rewards), without=("steps",))
        changed = [await self._step(step, new) for step in new.steps if step not in given.steps]
        return [*changed, msgspec.structs.replace(rollout, time=time.time())]

    async def _step(self, step: Step, trajectory: Trajectory) -> Record:
        old = make_record("step", step.id, {}, run=trajectory.run_id, rollout=trajectory.id)
        async for stored in self._store.read(
            "step", {"id": step.id, "rollout": trajectory.id}, newest_first=True, limit=1
        ):
            old = msgspec.structs.replace(stored.record, time=old.time)
        return rewritten(old, step)


def _key(stored: StoredRecord) -> _Key:
    record = stored.record
    return (record.kind, record.id, record.rollout, record.time)
