"""The numbers of a store are counted from its records alone, while a run is going on too."""

from __future__ import annotations

import asyncio

from tests.store.rollouts import add, assistant, model, rollout, user, weather

from agentlightning.data.processor import process
from agentlightning.data.record import make_record
from agentlightning.store.base import Store
from agentlightning.store.statistics import Tally, latest_runs, percentiles, statistics, tallies_by_run


def test_rollouts_are_counted_by_policy_split_and_agent(store: Store) -> None:
    async def scenario() -> None:
        await add(
            store,
            process(weather("r1", policy_id="original", usd=0.01)),
            weather("r2", "Blue.", 0.2, policy_id="p-1", split="live"),  # features not read out yet
            process(weather("r3", "Hm.", None, policy_id="p-1")),
            process(rollout("r4", status="failed", error="boom", policy_id="p-1", agent_id="other")),
        )
        found = await statistics(store)
        assert found.total == Tally(4, 2, 3, 1, 1.2)
        assert (found.total.mean_reward, found.total.success) == (0.6, 1 / 3)
        assert found.policies["p-1"].num_rollouts == 3 and found.policies["original"].mean_reward == 1.0
        assert found.splits["live"].mean_reward == 0.2 and found.agents["other"].success == 0.0
        assert found.policies["p-1"].mean_reward == 0.2
        assert found.statuses == {"succeeded": 3, "failed": 1}
        assert (found.num_model_calls, found.num_tool_calls) == (6, 3)
        assert (found.usd, found.num_unpriced) == (0.01, 2)
        assert found.call_seconds == {50: 0.5, 90: 0.5, 99: 0.5}
        only = await statistics(store, {"split": "live"})
        assert only.total.num_rollouts == 1

    asyncio.run(scenario())


def test_error_tags_come_with_a_rollout_and_a_step_to_look_at(store: Store) -> None:
    async def scenario() -> None:
        cut = [model("r1", 0, [user("q")], assistant("So"))]
        await add(
            store,
            process(rollout("r1", steps=cut, output="", reward=0.0)),
            process(rollout("r2", output="", reward=0.0)),
        )
        found = await statistics(store)
        assert list(found.tags) == ["empty_output", "no_model_call"]
        assert (found.tags["empty_output"].num_rollouts, found.tags["empty_output"].example) == (2, "r2")
        assert found.tags["no_model_call"].example == "r2"

    asyncio.run(scenario())


def test_a_run_that_is_going_on_shows_what_is_under_way(store: Store) -> None:
    async def scenario() -> None:
        for id, status in (("one", "running"), ("two", "finished")):
            await store.append(
                [make_record("run", id, {"status": "running", "agent": "a", "kind": "training"}, run=id)]
            )
            if status != "running":
                await store.append([make_record("run", id, {"status": status, "agent": "a"}, run=id)])
            await add(store, weather(f"{id}-done", run_id=id, reward=0.5))
            step = model(f"{id}-begun", 0, [user("q")], assistant("a"))
            await store.append([make_record("step", step.id, step, run=id, rollout=step.rollout_id)])
        await add(store, weather("live", split="live"))
        assert (await statistics(store)).num_in_flight == 1
        assert (await statistics(store, {"run": "one"})).num_in_flight == 1
        assert (await statistics(store, {"run": "two"})).num_in_flight == 0
        runs = await latest_runs(store)
        assert runs["two"] == {"status": "finished", "agent": "a", "kind": "training"}
        tallies = await tallies_by_run(store)
        assert (tallies["one"].mean_reward, tallies[""].num_rollouts) == (0.5, 1)

    asyncio.run(scenario())


def test_a_rollout_recorded_again_counts_once(store: Store) -> None:
    async def scenario() -> None:
        await add(store, weather("r", reward=None), weather("r", reward=1.0))
        assert (await statistics(store)).total.num_rollouts == 1
        assert (await tallies_by_run(store))[""].mean_reward == 1.0

    asyncio.run(scenario())


def test_percentiles_take_the_nearest_rank() -> None:
    assert percentiles([float(n) for n in range(1, 101)]) == {50: 50.0, 90: 90.0, 99: 99.0}
    assert percentiles([3.0]) == {50: 3.0, 90: 3.0, 99: 3.0}
    assert percentiles([]) == {}
