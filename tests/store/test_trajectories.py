"""A rollout, its steps and its feedback lie apart and are read as one trajectory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentlightning.data.call import Call, Reply
from agentlightning.data.record import make_record
from agentlightning.data.trajectory import Reward, Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store, StoredRecord
from agentlightning.store.trajectories import read_trajectories, trajectory_records


def rollout(id: str, **fields: Any) -> Trajectory:
    return Trajectory(id=id, agent_id="a", task="t", input="hello", timestamp=1.0, run_id="run", **fields)


def step(rollout_id: str, index: int, **fields: Any) -> Step:
    call, reply = Call("a", "m", [{"role": "user", "content": "hi"}]), Reply({"role": "assistant", "content": "yo"})
    fields = {"call": call, "reply": reply} | fields
    return Step(id=f"s{index}", rollout_id=rollout_id, index=index, kind="model", agent="a", started_at=1.0, **fields)


async def everything(store: Store, *args: Any, **query: Any) -> list[Trajectory]:
    return [trajectory async for trajectory in read_trajectories(store, *args, **query)]


def test_a_trajectory_comes_back_whole_with_its_steps_in_index_order(store: Store) -> None:
    one = rollout("r1", output={"x": 1}, reward=0.5, steps=[step("r1", 0), step("r1", 1)], rewards=[Reward(0.5, "ok")])
    two = rollout("r2", split="test", status="failed", error="boom", steps=[step("r2", 0, error="bad")])

    async def scenario() -> None:
        for trajectory in (one, two):  # each step as it ends, the later call first
            for record in reversed(trajectory_records(trajectory, with_steps=True)[:-1]):
                await store.append([record])
            await store.append(trajectory_records(trajectory))
        assert await everything(store) == [one, two]
        assert await everything(store, newest_first=True) == [two, one]
        assert await everything(store, newest_first=True, limit=1) == [two]
        assert await everything(store, limit=0) == []

    asyncio.run(scenario())


def test_the_rollout_record_leaves_the_steps_out_and_names_run_and_rollout() -> None:
    [record] = trajectory_records(rollout("r1", steps=[step("r1", 0)]))
    assert (record.kind, record.id, record.run, record.rollout) == ("rollout", "r1", "run", "r1")
    assert "steps" not in record.body


def test_filters_see_fields_that_stand_at_their_defaults(store: Store) -> None:
    async def scenario() -> None:
        for trajectory in (rollout("r1"), rollout("r2", split="live", reward=1.0)):
            await store.append(trajectory_records(trajectory))
        assert [t.id for t in await everything(store, {"split": "train", "status": "succeeded"})] == ["r1"]
        assert [t.id for t in await everything(store, {"reward": None})] == ["r1"]
        assert [t.id for t in await everything(store, {"run": "run", "split": ["live", "test"]})] == ["r2"]

    asyncio.run(scenario())


def test_the_latest_record_of_a_rollout_and_of_a_step_counts(store: Store) -> None:
    async def scenario() -> None:
        await store.append(
            trajectory_records(rollout("r1", steps=[step("r1", 0, error="stream broke")]), with_steps=True)
        )
        await store.append(trajectory_records(rollout("r2")))
        final = rollout("r1", reward=1.0, steps=[step("r1", 0)])
        await store.append(trajectory_records(final, with_steps=True))
        assert await everything(store) == [final, rollout("r2")]
        assert await everything(store, newest_first=True) == [final, rollout("r2")]

    asyncio.run(scenario())  # fmt: skip


def test_a_filter_is_held_against_the_latest_record_only(store: Store) -> None:
    async def scenario() -> None:
        await store.append(trajectory_records(rollout("r1", status="failed")))
        await store.append(trajectory_records(rollout("r2", status="failed")))
        await store.append(trajectory_records(rollout("r1")))
        assert [t.id for t in await everything(store, {"status": "failed"})] == ["r2"]
        assert [t.id for t in await everything(store, {"status": "succeeded"})] == ["r1"]
        assert [t.id for t in await everything(store, {"status": "failed"}, limit=1)] == ["r2"]

    asyncio.run(scenario())


def test_feedback_is_appended_to_the_rewards(store: Store) -> None:
    async def scenario() -> None:
        await store.append(trajectory_records(rollout("r1", rewards=[Reward(0.2, name="exact")])))
        await store.append([make_record("feedback", "f1", Reward(0.0, "wrong city", source="human"), rollout="r1")])
        await store.append([make_record("feedback", "f2", Reward(1.0, source="human"), rollout="r9")])
        await store.append([make_record("feedback", "f1", Reward(0.5, "only late", source="human"), rollout="r1")])
        [trajectory] = await everything(store)
        assert trajectory.rewards == [Reward(0.2, name="exact"), Reward(0.5, "only late", source="human")]

    asyncio.run(scenario())


def test_steps_of_two_rollouts_may_have_the_same_ids(store: Store) -> None:
    async def scenario() -> None:
        both = [rollout(id, steps=[step(id, 0), step(id, 1)]) for id in ("r1", "r2")]
        for trajectory in both:
            await store.append(trajectory_records(trajectory, with_steps=True))
        assert await everything(store) == both

    asyncio.run(scenario())


class CountingStore:
    """A real store that counts how often it is read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.num_reads = 0

    def read(self, *args: Any, **query: Any) -> AsyncIterator[StoredRecord]:
        self.num_reads += 1
        return self._store.read(*args, **query)


def test_many_rollouts_are_joined_with_a_few_reads(store: Store) -> None:
    async def scenario() -> None:
        expected = [rollout(f"r{n}", steps=[step(f"r{n}", 0)]) for n in range(150)]
        for trajectory in expected:
            store.submit(trajectory_records(trajectory, with_steps=True))
        await store.append([])
        counting = CountingStore(store)
        assert await everything(counting) == expected  # type: ignore[arg-type]
        assert counting.num_reads == 1 + 3 * 3
        assert await everything(store, limit=70) == expected[:70]
        assert await everything(store, limit=70, newest_first=True) == expected[:79:-1]

    asyncio.run(scenario())


def test_a_record_that_is_no_trajectory_is_named(store: Store) -> None:
    async def scenario() -> None:
        await store.append([make_record("rollout", "r1", {"id": "r1", "agent_id": 3})])
        with pytest.raises(DataError, match=r"rollout 'r1' in the store does not read as a Trajectory.*agent_id"):
            await everything(store)

    asyncio.run(scenario())
