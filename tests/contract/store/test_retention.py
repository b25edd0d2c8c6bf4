"""What is pruned is what is old, finished and named by nobody else: the same in every store."""

from __future__ import annotations

import asyncio
import time

import msgspec

from agentlightning.data.record import Record, make_record
from agentlightning.store.base import BlobRef, Store
from agentlightning.store.retention import Plan, plan_prune, prune

DAY = 24 * 3600.0


def aged(record: Record, days: float) -> Record:
    return msgspec.structs.replace(record, time=time.time() - days * DAY)


def run(id: str, days: float, status: str = "finished", *, blobs: tuple[BlobRef, ...] = ()) -> list[Record]:
    began = make_record("run", id, {"status": "running", "agent": "a", "started_at": 0.0}, run=id)
    weights = [make_record("checkpoint", f"{id}.c", {"weights": msgspec.to_builtins(ref)}, run=id) for ref in blobs]
    rollout = make_record("rollout", f"{id}.r", {"output": "x" * 50}, run=id, rollout=f"{id}.r")
    ended = make_record("run", id, {"status": status, "agent": "a", "started_at": 0.0}, run=id)
    return [aged(record, days) for record in (began, *weights, rollout, ended)]


def live(id: str, days: float) -> list[Record]:
    return [aged(make_record("rollout", id, {"split": "live"}, rollout=id), days)]


def ids(plan: Plan) -> tuple[list[str], list[str]]:
    return [run.id for run in plan.runs], [rollout.id for rollout in plan.rollouts]


async def left(store: Store) -> set[str]:
    return {stored.record.run or stored.record.rollout async for stored in store.read()}


def test_old_runs_and_live_rollouts_go_and_younger_ones_stay(store: Store) -> None:
    async def scenario() -> None:
        await store.append([*run("old", 40), *run("young", 3), *live("r-old", 31), *live("r-young", 1)])
        plan = await plan_prune(store, older_than_seconds=30 * DAY)
        assert ids(plan) == (["old"], ["r-old"])
        assert plan.num_records == 4 and plan.num_bytes > 100
        assert await left(store) == {"old", "young", "r-old", "r-young"}
        assert await prune(store, plan) == 4
        assert await left(store) == {"young", "r-young"}

    asyncio.run(scenario())


def test_an_unfinished_run_stays_unless_it_is_asked_for(store: Store) -> None:
    async def scenario() -> None:
        await store.append([*run("done", 40), *run("killed", 40, "running"), *run("failed", 40, "failed")])
        plan = await plan_prune(store, older_than_seconds=30 * DAY)
        assert (ids(plan)[0], [run.id for run in plan.unfinished]) == (["done"], ["killed", "failed"])
        told = await plan_prune(store, older_than_seconds=30 * DAY, with_unfinished=True)
        assert ids(told)[0] == ["done", "killed", "failed"]

    asyncio.run(scenario())


def test_the_newest_runs_stay_however_old(store: Store) -> None:
    async def scenario() -> None:
        await store.append([record for n in range(4) for record in run(f"run-{n}", 100 - n)])
        assert ids(await plan_prune(store, older_than_seconds=DAY, keep_runs=3))[0] == ["run-0"]

    asyncio.run(scenario())


def test_a_blob_goes_with_the_last_run_that_names_it(store: Store) -> None:
    async def scenario() -> None:
        own, shared, nobodys = [await store.put_blob(text) for text in (b"own", b"shared", b"nobody's")]
        await store.append([*run("old", 40, blobs=(own, shared)), *run("young", 1, blobs=(shared,))])
        await prune(store, await plan_prune(store, older_than_seconds=30 * DAY))
        assert {ref async for ref in store.blobs()} == {shared, nobodys}

    asyncio.run(scenario())


def test_nothing_old_is_nothing_done(store: Store) -> None:
    async def scenario() -> None:
        await store.append(run("young", 1))
        plan = await plan_prune(store, older_than_seconds=30 * DAY)
        assert (plan.num_records, await prune(store, plan)) == (0, 0)
        assert await left(store) == {"young"}

    asyncio.run(scenario())
