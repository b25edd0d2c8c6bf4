"""Comparing two policies task by task, and whose turn it is to be improved."""

from __future__ import annotations

import asyncio

import pytest

from agentlightning.algorithms.apo.proposer import Rotation
from agentlightning.algorithms.apo.scoreboard import Comparison, Scoreboard, pooled_mean
from agentlightning.algorithms.apo.together import together
from agentlightning.algorithms.base import Evaluation
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.trajectory import Group, RolloutStatus, Trajectory

OLD, NEW = Policy(), Policy(models={"a": "m"})


def groups(rewards: dict[str, float | None], status: RolloutStatus = "succeeded") -> list[Group]:
    return [
        Group(
            task,
            [Trajectory(id=task, agent_id="a", task=task, input=task, reward=reward, timestamp=0.0, status=status)],
        )
        for task, reward in rewards.items()
    ]


def test_only_tasks_both_were_run_on_are_compared() -> None:
    board = Scoreboard()
    board.add(OLD, groups({"a": 0.0, "b": 1.0}))
    board.add(NEW, groups({"b": 0.5, "c": 1.0}))
    assert board.on_tasks(NEW, OLD, ["a", "b", "c"]).differences == (-0.5,)


def test_a_task_judged_on_one_side_only_counts_against_the_other() -> None:
    board = Scoreboard()
    board.add(OLD, groups({"a": 1.0, "b": None, "c": None}))
    board.add(NEW, groups({"a": None, "b": 0.5, "c": None}))
    assert board.on_tasks(NEW, OLD, ["a", "b", "c"]).differences == (-1.0, 0.5)


def test_an_unjudged_run_counts_as_the_lowest_reward_seen_where_rewards_are_negative() -> None:
    board = Scoreboard()
    board.add(OLD, groups({"a": -2.0, "b": -5.0}))
    board.add(NEW, groups({"a": None}))
    assert board.on_tasks(NEW, OLD, ["a"]).differences == (-3.0,)


def test_a_stopped_rollout_is_no_evidence() -> None:
    board = Scoreboard()
    board.add(OLD, groups({"a": 1.0}))
    board.add(NEW, groups({"a": None}, status="stopped"))
    assert board.on_tasks(NEW, OLD, ["a"]).count == 0


def test_validation_and_rollouts_are_kept_apart() -> None:
    board = Scoreboard()
    board.add(OLD, groups({"a": 1.0}))
    board.add_evaluation(OLD, Evaluation("o", {"v": 0.0}))
    board.add_evaluation(NEW, Evaluation("n", {"v": 1.0}, ["w"]))
    assert board.on_validation(NEW, OLD).differences == (1.0,)
    assert board.mean(OLD) == 0.0


def test_a_validation_task_weighs_twice_a_training_task() -> None:
    assert pooled_mean(Comparison((-1.0,)), Comparison((1.0, 1.0))) == 0.0
    assert pooled_mean(Comparison(()), Comparison((0.5,))) == 0.5
    assert pooled_mean(Comparison(()), Comparison(())) == 0.0


def test_sites_take_turns_in_proportion_to_their_failures() -> None:
    sites = [PromptSite(id=name, agent=name, kind="system", template="") for name in "ab"]
    rotation = Rotation(sites)
    turns = "".join(rotation.next({"a": 3.0, "b": 1.0}).id for _ in range(8))
    assert turns.count("a") == 6 and turns.count("b") == 2


def test_all_end_before_the_first_error_is_raised() -> None:
    ended: list[int] = []

    async def work(number: int) -> int:
        await asyncio.sleep(0.001 * number)
        ended.append(number)
        if number < 3:
            raise ValueError(str(number))
        return number

    with pytest.raises(ValueError, match="2"):
        asyncio.run(together([work(2), work(1), work(4)]))
    assert ended == [1, 2, 4]
