"""Sampling while learning: the bound on staleness holds, groups stay whole, slow ones hold nobody up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.algorithms.rl_worlds import LocalSession, TableEngine, Team, on_a_loop, said
from tests.algorithms.test_rl_learning import FAST, TASKS, one_turn

from agentlightning.algorithms import ALGORITHMS
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.engine.base import Learning, Update


class SlowEngine(TableEngine):
    """Learns slowly, and says when it does."""

    is_learning = False

    async def update(self, samples: Any, *, adapter: str, learning: Learning) -> Update:
        self.is_learning = True
        await asyncio.sleep(0.01)
        self.is_learning = False
        return await super().update(samples, adapter=adapter, learning=learning)


def watched(play: Any, folder: Path, engine: TableEngine, **settings: Any) -> tuple[LocalSession, list[int]]:
    """A session, and (growing) for every sample learned from: how many updates ago its weights were current.

    Independent of what the algorithm says of itself: samples name the policy they were sampled under.
    """
    session = LocalSession(play, folder, engine=engine, **settings)
    behind: list[int] = []
    weights_of: dict[str, str] = {}
    last_current = {"": 0}
    rollout, update = session.rollout, engine.update

    async def noting(tasks: list[Task], *, policy: Policy | None = None, **asked: Any) -> Any:
        assert policy is not None
        weights_of[policy.id] = policy.weights.get("solo", "")
        return await rollout(tasks, policy=policy, **asked)

    async def counting(samples: Any, *, adapter: str, learning: Learning) -> Update:
        last_current[await engine.snapshot(adapter)] = now = len(engine.updates)
        behind.extend(now - last_current[weights_of[sample.policy_id]] for sample in samples)
        return await update(samples, adapter=adapter, learning=learning)

    session.rollout, engine.update = noting, counting  # type: ignore[method-assign]
    return session, behind


@pytest.mark.parametrize("bound", [0, 1, 3])
@on_a_loop
async def test_no_sample_is_staler_than_the_bound_and_the_bound_is_used(tmp_path: Path, bound: int) -> None:
    session, behind = watched(one_turn, tmp_path, TableEngine(), tasks=TASKS)
    rl = ALGORITHMS.load("grpo")(**FAST | {"policy_lr": 2.0, "batch_size": 3}, max_staleness=bound)
    await rl.train(session)
    assert max(behind) == bound and min(behind) >= 0
    assert max(session.metric("staleness_max")) == bound


@on_a_loop
async def test_agents_work_while_weights_are_learned_only_if_that_is_asked_for(tmp_path: Path) -> None:
    async def overlap(bound: int) -> int:
        engine, seen = SlowEngine(), [0]

        async def play(team: Team, task: Task) -> float:
            await asyncio.sleep(0.002)
            seen[0] += engine.is_learning
            return await one_turn(team, task)

        session = LocalSession(play, tmp_path / str(bound), engine=engine, tasks=TASKS)
        await ALGORITHMS.load("grpo")(**FAST | {"iterations": 6}, max_staleness=bound).train(session)
        return seen[0]

    assert await overlap(0) == 0
    assert await overlap(1) > 0


@on_a_loop
async def test_stale_samples_still_teach(tmp_path: Path) -> None:
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await ALGORITHMS.load("grpo")(**FAST, max_staleness=2).train(session)
    assert (await session.evaluate(learned)).mean == 1.0
    assert session.engine.updates[-1][2].options["correction"] == "tis"


@on_a_loop
async def test_a_rollout_that_hangs_holds_nobody_up_and_is_counted(tmp_path: Path) -> None:
    async def play(team: Team, task: Task) -> float:
        if task.id == "t1" and team.rollout_id.endswith("-0") and "temperature" in str(team.policy.sampling):
            await asyncio.sleep(30)
        return await one_turn(team, task)

    session = LocalSession(play, tmp_path, engine=TableEngine(), tasks=TASKS)
    rl = ALGORITHMS.load("grpo")(**FAST | {"batch_size": 1, "group_size": 4}, max_staleness=2)
    await asyncio.wait_for(rl.train(session), 20)
    assert session.metric("num_groups_too_old")[-1] > 0
    assert max(session.metric("staleness_max")) <= 2


@on_a_loop
async def test_groups_are_consumed_whole(tmp_path: Path) -> None:
    """Every group whose rollouts differ arrives with all of its rollouts."""
    session, _ = watched(one_turn, tmp_path, TableEngine(), tasks=TASKS)
    await ALGORITHMS.load("grpo")(**FAST | {"iterations": 8, "policy_lr": 1.0}, max_staleness=2).train(session)
    for _, samples, _ in session.engine.updates:
        groups: dict[str, set[str]] = {}
        for sample in samples:
            group, _, draw = sample.rollout_id.rpartition("-")
            groups.setdefault(f"{group}/{int(draw) // 8}", set()).add(sample.rollout_id)
        assert {len(rollouts) for rollouts in groups.values()} == {8}


@on_a_loop
async def test_an_agents_error_ends_training_with_nothing_left_running(tmp_path: Path) -> None:
    async def play(team: Team, task: Task) -> float:
        if len(session.engine.updates) == 2:
            raise RuntimeError("our own fault")
        await asyncio.sleep(0.001)
        return float(await team.ask("solo", [said("user", task.id)]) == "red")

    session = LocalSession(play, tmp_path, engine=TableEngine(), tasks=TASKS)
    with pytest.raises(RuntimeError, match="our own fault"):
        await ALGORITHMS.load("grpo")(**FAST | {"policy_lr": 0.5}, max_staleness=2).train(session)
    assert len(asyncio.all_tasks()) == 1
