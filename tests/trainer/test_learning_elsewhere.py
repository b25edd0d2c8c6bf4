"""Runs whose weights another program trains: it asks for rollouts, the run stays what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.trainer import elsewhere_made_here
from tests.trainer.trained_worlds import agent, model_folder, questions, share_of_letters

from agentlightning import Task, Trainer, Trajectory
from agentlightning.errors import ConfigError

ENGINE = {"name": "tests.trainer.elsewhere_made_here:Elsewhere", "rank": 4, "device": "cpu"}
SETTINGS = {"group_size": 8, "batch_size": 8, "policy_lr": 0.06, "iterations": 2, "evaluate_every": 1}


@pytest.fixture(autouse=True)
def _nothing_was_played() -> None:
    elsewhere_made_here.played.clear()


def trainer(folder: Path, reward: Any = share_of_letters, **params: Any) -> Trainer:
    return Trainer(
        agent(),
        algorithm=[{"name": "grpo", "params": SETTINGS | params}],
        config={"engine": ENGINE},
        models={"policy": model_folder()},
        reward=reward,
        data_dir=folder / "data",
        output_dir=folder / "out",
        progress=False,
    )


def test_the_weights_that_did_best_on_the_validation_tasks_are_handed_back(tmp_path: Path) -> None:
    result = trainer(tmp_path).train(questions(24))
    assert result.final > result.baseline + 0.1
    [chosen] = [entry for entry in result.history if entry.stage == "1-grpo"]
    assert chosen.decision == "accepted" and chosen.reason.startswith("round ")
    orders = [order for order, _ in elsewhere_made_here.played]
    assert {order.num_updates for order in orders} == {0, 1}
    samples = [sample for _, found in elsewhere_made_here.played for sample in found.samples]
    assert all(sample.logprobs and len(sample.logprobs) == len(sample.completion_ids) for sample in samples)


def test_a_rollout_nobody_judged_is_given_without_a_reward_and_never_with_a_zero(tmp_path: Path) -> None:
    def sometimes(task: Task, trajectory: Trajectory) -> float:
        if trajectory.split == "train" and trajectory.stage == "1-grpo" and trajectory.draw == 0:
            raise ValueError("no opinion")
        return share_of_letters(task, trajectory)[0]

    trainer(tmp_path, sometimes, iterations=1).train(questions(24))
    unjudged = [found for order, found in elsewhere_made_here.played if order.draw == 0]
    judged = [found for order, found in elsewhere_made_here.played if order.draw > 0]
    assert unjudged and all(found.reward is None and not found.samples for found in unjudged)
    assert judged and all(found.reward is not None and found.samples for found in judged)


@pytest.mark.parametrize("odd", [{"credit": "discounted"}, {"curriculum": "uncertain"}, {"max_staleness": 2}])
def test_what_only_our_own_learning_has_is_refused_by_name(tmp_path: Path, odd: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"does not have {next(iter(odd))}"):
        trainer(tmp_path, **odd).train(questions(24))
