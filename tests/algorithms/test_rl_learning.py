"""RL learns: one turn, several turns, two agents with weights of their own; every method, on an engine that is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from tests.algorithms.rl_worlds import LocalSession, TableEngine, Team, on_a_loop, said

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.rl.config import MethodName
from agentlightning.data.task import Task

FAST: dict[str, Any] = {"policy_lr": 20.0, "batch_size": 4, "group_size": 8, "iterations": 25, "evaluate_every": 25}
TASKS = [Task(id=f"t{i}", input=f"which colour is {thing}?") for i, thing in enumerate(["grass", "sky", "blood"])]
COLOURS = {"t0": "green", "t1": "blue", "t2": "red"}


async def one_turn(team: Team, task: Task) -> float:
    return float(await team.ask("solo", [said("user", str(task.input))]) == COLOURS[task.id])


async def two_turns(team: Team, task: Task) -> float:
    """The first answer opens a door behind which the second is the right one."""
    told = [said("user", str(task.input))]
    first = await team.ask("solo", told)
    told += [said("assistant", first), said("user", "open" if first == COLOURS[task.id] else "shut")]
    return float(await team.ask("solo", told) == "stop" and first == COLOURS[task.id])


async def relay(team: Team, task: Task) -> float:
    """Only the coder sees the question; the reviewer must repeat what the coder said. Both are needed."""
    first = await team.ask("coder", [said("user", str(task.input))])
    second = await team.ask("reviewer", [said("user", f"the coder said {first}")])
    return float(first == COLOURS[task.id] and second == first)


@pytest.mark.parametrize("method", get_args(MethodName))
@on_a_loop
async def test_every_method_learns_a_bandit(tmp_path: Path, method: str) -> None:
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await ALGORITHMS.load(method)(**FAST).train(session)
    assert (await session.evaluate(session.policy)).mean < 0.6
    assert (await session.evaluate(learned)).mean == 1.0
    assert session.engine.updates[-1][2].loss == method


@pytest.mark.parametrize("credit", ["episode", "discounted", "steps", "anchor"])
@on_a_loop
async def test_every_credit_learns_two_turns(tmp_path: Path, credit: str) -> None:
    session = LocalSession(two_turns, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await ALGORITHMS.load("rl")(**FAST, credit=credit).train(session)
    assert (await session.evaluate(learned)).mean == 1.0


@pytest.mark.parametrize("cooperation", ["shared", "difference"])
@pytest.mark.parametrize("normalise", ["per_agent", "shared"])
@on_a_loop
async def test_two_agents_learn_to_work_together_each_with_its_own_weights(
    tmp_path: Path, cooperation: str, normalise: str
) -> None:
    session = LocalSession(relay, tmp_path, engine=TableEngine(), agents=("coder", "reviewer"), tasks=TASKS)
    rl = ALGORITHMS.load("rl")(**FAST | {"iterations": 40}, cooperation=cooperation, normalise=normalise)
    learned = await rl.train(session)
    assert (await session.evaluate(learned)).mean == 1.0
    assert set(learned.weights) == {"coder", "reviewer"} and len(set(learned.weights.values())) == 2
    assert session.metric("coder.num_rollouts") and session.metric("reviewer.ratio_max")


@on_a_loop
async def test_mixed_rewards_reach_the_agent_they_name(tmp_path: Path) -> None:
    async def told_apart(team: Team, task: Task) -> float:
        reward = await relay(team, task)
        team.emit(float(team.steps[0].reply.text == COLOURS[task.id]), name="coder", metric=True)  # type: ignore[union-attr]
        team.emit(float(team.steps[1].reply.text == team.steps[0].reply.text), step=True)  # type: ignore[union-attr]
        return reward

    session = LocalSession(told_apart, tmp_path, engine=TableEngine(), agents=("coder", "reviewer"), tasks=TASKS)
    learned = await ALGORITHMS.load("grpo")(**FAST, cooperation="mixed", own_share=0.7).train(session)
    assert (await session.evaluate(learned)).mean == 1.0


@on_a_loop
async def test_an_agent_that_is_not_a_target_keeps_its_weights(tmp_path: Path) -> None:
    session = LocalSession(relay, tmp_path, engine=TableEngine(), agents=("reviewer",), tasks=TASKS)
    learned = await ALGORITHMS.load("grpo")(**FAST).train(session)
    assert set(learned.weights) <= {"reviewer"} and {adapter for adapter, _, _ in session.engine.updates} == {
        "reviewer"
    }


@on_a_loop
async def test_an_optimised_prompt_stays_in_place(tmp_path: Path) -> None:
    from agentlightning.data.resource import PromptSite

    site = PromptSite(id="s", agent="solo", kind="prefix", template="which colour is {{x}}?")
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    session.policy = session.policy.with_prompt(site, "say the colour of {{x}}!")
    learned = await ALGORITHMS.load("grpo")(**FAST).train(session)
    assert learned.prompts == session.policy.prompts and learned.weights
    assert not learned.sampling, "the temperature of training is not handed back"
    assert (await session.evaluate(learned)).mean == 1.0


@on_a_loop
async def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    turned = False

    async def turning(team: Team, task: Task) -> float:
        right = await one_turn(team, task)
        is_training = float(team.policy.sampling.get("solo", {}).get("temperature", 0)) > 0
        return 1 - right if turned and is_training else right

    session.play = turning
    rl = ALGORITHMS.load("grpo")(**FAST | {"iterations": 30, "evaluate_every": 5})
    wait = session.checkpoint

    async def checkpoint(state: Any) -> None:
        nonlocal turned
        turned = state["num_updates"] >= 15
        await wait(state)

    session.checkpoint = checkpoint  # type: ignore[method-assign]
    learned = await rl.train(session)
    assert (await session.evaluate(learned)).mean == 1.0
    assert (
        "rejected" in session.decisions
        and session.engine.tables["solo"] == session.engine.versions[learned.weights["solo"]]
    )
