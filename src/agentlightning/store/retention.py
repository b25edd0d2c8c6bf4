"""What may go: finished runs that are old enough, live rollouts that are, and blobs that nobody else names.

Age counts from the last thing that was written, by its writer's clock. A run that could still be resumed stays.
"""

from __future__ import annotations

import time

import msgspec

from agentlightning.data.record import Record
from agentlightning.store.base import BlobRef, Removal, Store
from agentlightning.store.checking import blobs_in


class Holding(msgspec.Struct):
    """What belongs to one run, or to one rollout outside any run."""

    id: str
    last: float = 0.0
    """When something was written to it for the last time."""
    status: str = ""
    """Of a run; empty for what has no record of its own (imported runs, live rollouts)."""
    num_records: int = 0
    num_bytes: int = 0
    blobs: set[BlobRef] = msgspec.field(default_factory=set[BlobRef])

    @property
    def is_unfinished(self) -> bool:
        return self.status not in ("", "finished")

    def add(self, record: Record) -> None:
        self.last = max(self.last, record.time)
        self.num_records += 1
        self.num_bytes += len(msgspec.json.encode(record.body))
        self.blobs.update(blobs_in(record.body))
        if record.kind == "run":
            self.status = record.body.get("status") or self.status


class Plan(msgspec.Struct, frozen=True):
    """What would go, and the unfinished runs that are old enough but stay."""

    runs: list[Holding]
    rollouts: list[Holding]
    blobs: list[BlobRef]
    unfinished: list[Holding]

    @property
    def num_records(self) -> int:
        return sum(holding.num_records for holding in [*self.runs, *self.rollouts])

    @property
    def num_bytes(self) -> int:
        records = sum(holding.num_bytes for holding in [*self.runs, *self.rollouts])
        return records + sum(ref.size for ref in self.blobs)


async def plan_prune(
    store: Store, *, older_than_seconds: float, keep_runs: int = 0, with_unfinished: bool = False
) -> Plan:
    """Read the whole store and decide. The `keep_runs` runs written to last stay, whatever their age."""
    runs, rollouts, others = await _holdings(store)
    limit = time.time() - older_than_seconds
    newest = sorted(runs.values(), key=lambda run: run.last, reverse=True)[:keep_runs]
    old = [run for run in runs.values() if run.last < limit and run not in newest]
    going = [run for run in old if with_unfinished or not run.is_unfinished]
    old_rollouts = [rollout for rollout in rollouts.values() if rollout.last < limit]
    gone = {id(holding) for holding in [*going, *old_rollouts]}
    staying = [holding for holding in [*runs.values(), *rollouts.values()] if id(holding) not in gone]
    kept = others.union(*(holding.blobs for holding in staying))
    named = set[BlobRef]().union(*(holding.blobs for holding in [*going, *old_rollouts]))
    blobs = sorted(named - kept, key=lambda ref: ref.sha256)
    return Plan(going, old_rollouts, blobs, [run for run in old if run not in going])


async def prune(store: Store, plan: Plan) -> int:
    """Do what was planned, and say how many records went. Killed and begun again, with a new plan, it does the rest."""
    removal = Removal([run.id for run in plan.runs], [rollout.id for rollout in plan.rollouts])
    number = await store.remove(removal)
    for ref in plan.blobs:
        await store.remove_blob(ref)
    return number


async def _holdings(store: Store) -> tuple[dict[str, Holding], dict[str, Holding], set[BlobRef]]:
    """By run, by rollout outside any run, and the blobs that other records name."""
    runs, rollouts, others = dict[str, Holding](), dict[str, Holding](), set[BlobRef]()
    async for stored in store.read():
        record = stored.record
        if record.run:
            runs.setdefault(record.run, Holding(record.run)).add(record)
        elif record.rollout:
            rollouts.setdefault(record.rollout, Holding(record.rollout)).add(record)
        else:
            others.update(blobs_in(record.body))
    return runs, rollouts, others
