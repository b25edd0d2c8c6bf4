"""Kinds of task: who won and who lost, read from what tasks say of themselves."""

from __future__ import annotations

from typing import Any

from agentlightning.data.resource import Policy
from agentlightning.trainer.result import Cost, TaskOutcome, TrainingResult
from agentlightning.trainer.slices import Slice, slices


def outcome(number: int, before: float | None, after: float, **fields: Any) -> TaskOutcome:
    return TaskOutcome(
        task_id=str(number), split="test", input="q", baseline_reward=before, final_reward=after, **fields
    )


def test_the_kind_that_lost_most_comes_first() -> None:
    tasks = [
        outcome(1, 0.0, 1.0, metadata={"region": "north"}),
        outcome(2, 0.0, 1.0, metadata={"region": "north"}),
        outcome(3, 1.0, 0.0, metadata={"region": "south"}),
        outcome(4, 1.0, 1.0, metadata={"region": "south"}),
        outcome(5, None, 1.0, metadata={"region": "south"}),
    ]
    assert slices(tasks) == [
        Slice("region", "south", 2, 1.0, 0.5, 0, 1),
        Slice("region", "north", 2, 0.0, 1.0, 2, 0),
    ]


def test_labels_make_kinds_and_answers_of_their_own_do_not() -> None:
    labelled = [outcome(i, 0.0, 1.0, expected="yes" if i % 2 else "no") for i in range(4)]
    assert {one.value for one in slices(labelled)} == {"yes", "no"}
    assert slices([outcome(i, 0.0, 1.0, expected=f"answer {i}") for i in range(4)]) == []
    assert slices([outcome(i, 0.0, 1.0, expected={"a": 1}) for i in range(4)]) == []


def test_a_point_has_a_price_only_where_one_was_gained() -> None:
    cost = Cost(calls=500, usd=2.0)
    gained = TrainingResult(policy=Policy(), verdict="improved", difference=0.2, num_test_tasks=30, cost=cost)
    assert gained.price_of_a_point() == "$0.10, 25 model calls"
    lost = TrainingResult(policy=Policy(), verdict="kept original", difference=-0.2, num_test_tasks=30, cost=cost)
    assert lost.price_of_a_point() is None
