"""Each consumer sees each rollout once, whatever happened in between, and says how many were new."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentlightning.data.processor import process
from agentlightning.data.record import make_record
from agentlightning.data.trajectory import Features, Reward, Step, Trajectory
from agentlightning.errors import ConfigError
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.processing import process_new
from agentlightning.store.trajectories import read_trajectories, trajectory_records


def rollout(id: str, **fields: Any) -> Trajectory:
    return Trajectory(id=id, agent_id="a", task="t", input="how much is 1 + 1?", timestamp=1.0, **fields)


async def add(store: Store, *trajectories: Trajectory) -> None:
    await store.append([r for t in trajectories for r in trajectory_records(t, with_steps=True)])


async def everything(store: Store) -> list[Trajectory]:
    return [trajectory async for trajectory in read_trajectories(store)]


def test_a_second_pass_touches_only_what_is_new_and_says_how_many(store: Store) -> None:
    handled: list[str] = []

    async def scenario() -> None:
        await add(store, *(rollout(f"r{n}") for n in range(150)))
        first = await process_new(store, "mine", lambda t: handled.append(t.id))
        assert (first.num_new, first.num_changed) == (150, 0)
        assert (await process_new(store, "mine", lambda t: handled.append(t.id))).num_new == 0
        await add(store, rollout("late"))
        assert (await process_new(store, "mine", lambda t: handled.append(t.id))).num_new == 1
        assert handled == [*(f"r{n}" for n in range(150)), "late"]

    asyncio.run(scenario())


def test_what_is_returned_takes_the_rollouts_place_and_is_not_new_to_its_writer(store: Store) -> None:
    async def scenario() -> None:
        await add(store, *(rollout(f"r{n}", output="2") for n in range(70)))
        done = await process_new(store, "features", process)
        assert (done.num_new, done.num_changed) == (70, 70)
        assert all(t.features and t.features.task_type == "math" for t in await everything(store))
        assert (await process_new(store, "features", process)).num_new == 0
        assert (await process_new(store, "somebody else", process)).num_new == 70

    asyncio.run(scenario())


def test_feedback_makes_a_rollout_new_and_is_not_recorded_twice(store: Store) -> None:
    async def scenario() -> None:
        await add(store, rollout("r1", rewards=[Reward(0.2)]), rollout("r2"))
        await process_new(store, "features", process)
        await store.append([make_record("feedback", "f", Reward(1.0, source="human"), rollout="r1")])
        seen: list[str] = []

        async def relabel(trajectory: Trajectory) -> Trajectory:
            seen.append(trajectory.id)
            return msgspec.structs.replace(trajectory, features=Features("rated"))

        assert (await process_new(store, "features", relabel)).num_new == 1
        assert seen == ["r1"]
        first = (await everything(store))[0]
        assert first.rewards == [Reward(0.2), Reward(1.0, source="human")]
        assert first.features == Features("rated")

    asyncio.run(scenario())


def test_a_changed_step_is_recorded_again_and_the_others_are_not(store: Store) -> None:
    steps = [Step(id=f"s{n}", rollout_id="r", index=n, kind="tool", agent="a", started_at=1.0) for n in range(3)]

    def rename(trajectory: Trajectory) -> Trajectory:
        changed = msgspec.structs.replace(trajectory.steps[1], name="lookup")
        return msgspec.structs.replace(trajectory, steps=[trajectory.steps[0], changed, trajectory.steps[2]])

    async def scenario() -> None:
        await add(store, rollout("r", steps=steps))
        await process_new(store, "renamer", rename)
        assert [s.name for s in (await everything(store))[0].steps] == [None, "lookup", None]
        assert len([s async for s in store.read("step")]) == 4

    asyncio.run(scenario())


def test_fields_of_a_newer_release_survive_being_processed(store: Store) -> None:
    async def scenario() -> None:
        record = trajectory_records(rollout("r"))[0]
        future = msgspec.structs.replace(record, body={**record.body, "mood": "sunny"})
        await store.append([future])
        await process_new(store, "features", process)
        [latest] = [s.record async for s in store.read("rollout", newest_first=True, limit=1)]
        assert latest.body["mood"] == "sunny" and latest.body["features"]["task_type"] == "math"

    asyncio.run(scenario())


def test_a_handler_that_fails_ends_the_pass_and_the_next_one_goes_on_there(store: Store) -> None:
    handled: list[str] = []

    def handle(trajectory: Trajectory) -> None:
        if trajectory.id == "r100" and not handled.count("r99") > 1:
            raise ZeroDivisionError
        handled.append(trajectory.id)

    async def scenario() -> None:
        await add(store, *(rollout(f"r{n}") for n in range(130)))
        with pytest.raises(ZeroDivisionError):
            await process_new(store, "mine", handle)
        handled.append("r99")
        assert (await process_new(store, "mine", handle)).num_new == 130 - 64

    asyncio.run(scenario())


def test_a_consumer_without_a_name_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        asyncio.run(process_new(store, " ", process))


actions = st.lists(
    st.tuples(st.just("record"), st.integers(0, 4))
    | st.tuples(st.just("rate"), st.integers(0, 4))
    | st.tuples(st.just("process"), st.sampled_from(["x", "y"])),
    max_size=14,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=actions)
def test_processing_twice_is_processing_once(script: list[tuple[str, Any]]) -> None:
    async def scenario() -> None:
        store = open_store("memory:")
        recorded: set[str] = set()
        waiting: dict[str, set[str]] = {"x": set(), "y": set()}
        for number, (action, what) in enumerate([*script, ("process", "x"), ("process", "y"), ("process", "x")]):
            if action == "record":
                recorded.add(f"r{what}")
                await add(store, rollout(f"r{what}", output=number))
            elif action == "rate":
                await store.append([make_record("feedback", f"f{number}", Reward(1.0), rollout=f"r{what}")])
            if action != "process":
                for ids in waiting.values():
                    ids.add(f"r{what}")
                continue
            done = await process_new(store, what, process)
            assert done.num_new == len(waiting[what] & recorded)
            waiting[what] = set()
            other = {"x": "y", "y": "x"}[what]
            waiting[other] |= {f"r{n}" for n in range(5)} & recorded if done.num_changed else set()
            if done.num_changed:  # which ones changed is the other's affair: let it catch up
                await process_new(store, other, lambda t: None)
                waiting[other] = set()
            before = await everything(store)
            assert (await process_new(store, what, process)).num_new == 0
            assert await everything(store) == before == [process(t) for t in before]
        await store.close()

    asyncio.run(scenario())
