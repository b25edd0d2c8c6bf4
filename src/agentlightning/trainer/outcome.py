"""From measured groups to the result: what the held-out test says, in the result's own words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group
from agentlightning.trainer.evaluation import Claim, Comparison, verdict
from agentlightning.trainer.result import TaskOutcome, Winner


class Measured(msgspec.Struct, frozen=True):
    """The original and every winner on the same tasks."""

    tasks: list[Task]
    baseline: list[Group]
    winners: dict[str, list[Group]]
    """Policy id → groups in the order of `tasks`."""
    is_held_out: bool


def conclude(measured: Measured, policies: Mapping[str, Policy]) -> dict[str, Any]:
    """The fields of a TrainingResult that the measurement decides, by the one rule of `evaluation.verdict`."""
    claim = verdict(
        _rewards(measured.baseline),
        {policy_id: _rewards(groups) for policy_id, groups in measured.winners.items()},
        is_held_out=measured.is_held_out,
    )
    best = claim.best
    interval = best.interval if best else None
    shown = measured.winners[best.policy_id] if best else measured.baseline
    return {
        "policy": policies.get(claim.policy_id, Policy()),
        "verdict": claim.verdict,
        "baseline": best.baseline if best else _mean(measured.baseline),
        "final": _final_mean(claim, measured.baseline),
        "difference": best.difference if best else None,
        "interval": (interval.low, interval.high) if interval else None,
        "p_value": interval.p_value if interval else None,
        "num_test_tasks": len(best.differences) if best and measured.is_held_out else 0,
        "winners": [_winner(comparison) for comparison in claim.compared],
        "tasks": _outcomes(measured.tasks, measured.baseline, shown),
        "notes": claim.notes,
    }


def _winner(comparison: Comparison) -> Winner:
    interval = comparison.interval
    return Winner(
        policy_id=comparison.policy_id,
        final=comparison.final,
        difference=comparison.difference,
        interval=(interval.low, interval.high) if interval else None,
    )


def _rewards(groups: Sequence[Group]) -> dict[str, list[float | None]]:
    """Task id → rewards. Rollouts we stopped say nothing, and a task with no other is not compared."""
    ended = {group.task_id: [t.reward for t in group.trajectories if t.status != "stopped"] for group in groups}
    return {task_id: rewards for task_id, rewards in ended.items() if rewards}


def _mean(groups: Sequence[Group]) -> float | None:
    means = [group.mean for group in groups if group.mean is not None]
    return sum(means) / len(means) if means else None


def _final_mean(claim: Claim, baseline: Sequence[Group]) -> float | None:
    """Of what is handed back: the winner's, or the original's own."""
    if claim.best is None:
        return _mean(baseline)
    return claim.best.baseline if claim.verdict == "kept original" else claim.best.final


def _outcomes(tasks: Sequence[Task], baseline: Sequence[Group], final: Sequence[Group]) -> list[TaskOutcome]:
    before, after = ({group.task_id: group for group in groups} for groups in (baseline, final))
    return [_outcome(task, before[task.id], after[task.id]) for task in tasks if task.id in before and task.id in after]


def _outcome(task: Task, before: Group, after: Group) -> TaskOutcome:
    old, new = before.trajectories[0], after.trajectories[0]
    return TaskOutcome(
        task_id=task.id,
        split=old.split,
        input=task.input,
        expected=task.expected,
        baseline_reward=before.mean,
        final_reward=after.mean,
        baseline_output=old.output,
        final_output=new.output,
        baseline_reason=old.reason,
        final_reason=new.reason,
        metadata=task.metadata,
    )
