"""How a rollout lies in a store: one record for itself, one per step, one per piece of feedback, joined when read.

Steps are written as they happen, so a killed run keeps them; the rollout's own record is written when it ends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import msgspec

from agentlightning.data.record import Record, make_record
from agentlightning.data.trajectory import Reward, Step, Trajectory
from agentlightning.store.base import Store, StoredRecord, Where
from agentlightning.store.versions import read_noun

BATCH = 64
"""Rollouts joined at a time: three queries for all of them."""

_Noun = TypeVar("_Noun", Trajectory, Step)


def rollout_record(trajectory: Trajectory) -> Record:
    """The rollout's own record: everything but its steps.

    Fields at their defaults are written out too, so that filters such as `{"split": "train"}` find them.
    """
    body = {field: getattr(trajectory, field) for field in Trajectory.__struct_fields__ if field != "steps"}
    return make_record("rollout", trajectory.id, body, run=trajectory.run_id, rollout=trajectory.id)


def trajectory_records(trajectory: Trajectory, *, with_steps: bool = False) -> list[Record]:
    """The rollout's record, behind its steps' when those were not written as they happened."""
    steps = trajectory.steps if with_steps else []
    run, rollout = trajectory.run_id, trajectory.id
    records = [make_record("step", step.id, step, run=run, rollout=rollout) for step in steps]
    return [*records, rollout_record(trajectory)]


async def read_trajectories(
    store: Store, where: Where | None = None, *, limit: int | None = None, newest_first: bool = False
) -> AsyncGenerator[Trajectory]:
    """The rollouts that match, whole: steps in index order, feedback behind the recorded rewards.

    The latest record of a rollout, step or feedback counts, and must match `where`. A rollout recorded again keeps
    its first place (newest first: takes its newest). DataError when a record does not read as what it should be.
    """
    num_left = limit
    seen: set[str] = set()
    batch: list[StoredRecord] = []
    async for stored in store.read("rollout", where, newest_first=newest_first):
        if num_left is not None and num_left <= 0:
            return
        if stored.record.id in seen:
            continue
        seen.add(stored.record.id)
        batch.append(stored)
        if len(batch) == min(BATCH, num_left or BATCH):
            for trajectory in await _join(store, batch, where):
                yield trajectory
                num_left = None if num_left is None else num_left - 1
            batch = []
    for trajectory in await _join(store, batch, where):
        yield trajectory


async def _join(store: Store, matched: list[StoredRecord], where: Where | None) -> list[Trajectory]:
    if not matched:
        return []
    rollouts = await _latest_matching(store, matched, where)
    ids = [rollout.id for rollout in rollouts]
    steps = await _by_rollout(store, "step", ids, Step)
    feedback = await _ratings(store, ids)
    joined: list[Trajectory] = []
    for rollout in rollouts:
        trajectory = read_noun(rollout, Trajectory)
        ordered = sorted(steps[rollout.id], key=lambda step: step.index)
        rewards = [*trajectory.rewards, *feedback[rollout.id]]
        joined.append(msgspec.structs.replace(trajectory, steps=ordered, rewards=rewards))
    return joined


async def _latest_matching(store: Store, matched: list[StoredRecord], where: Where | None) -> list[Record]:
    """The latest record of each matched rollout, where that still matches."""
    ids = [stored.record.id for stored in matched]
    latest = {stored.record.id: stored async for stored in store.read("rollout", {"id": ids})}
    known = {stored.cursor for stored in matched}
    changed = [id for id in ids if latest[id].cursor not in known]
    if changed:
        known |= {stored.cursor async for stored in store.read("rollout", {**(where or {}), "id": changed})}
    return [latest[id].record for id in ids if latest[id].cursor in known]


async def _ratings(store: Store, ids: Sequence[str]) -> dict[str, list[Reward]]:
    """What people gave each rollout; choices and comments have no number and are no rewards."""
    records = {r.record.id: r.record async for r in store.read("feedback", {"rollout": ids})}
    found: defaultdict[str, list[Reward]] = defaultdict(list)
    for record in records.values():
        if record.body.get("value") is not None:
            reason = record.body.get("reason") or record.body.get("comment") or None
            rated = msgspec.structs.replace(read_noun(record, Reward), reason=reason, source="human")
            found[record.rollout].append(rated)
    return found


async def _by_rollout(store: Store, kind: str, ids: Sequence[str], noun: type[_Noun]) -> dict[str, list[_Noun]]:
    records = [stored.record async for stored in store.read(kind, {"rollout": ids})]
    latest = {(record.rollout, record.id): record for record in records}
    found: defaultdict[str, list[_Noun]] = defaultdict(list)
    for record in latest.values():
        found[record.rollout].append(read_noun(record, noun))
    return found
