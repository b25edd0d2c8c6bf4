"""What is known so far: every policy's rewards, task by task, and how two policies compare.

Two policies are compared on the tasks both were run on, difference by difference. The sign of the mean decides (the
posterior mean under a prior centred on "no change"): waiting for significance costs more gains than it avoids losses,
and the policy handed back is the best *validated* one anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from agentlightning.algorithms.base import Evaluation
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Group


class Comparison(msgspec.Struct, frozen=True):
    """Differences (challenger minus the other), one per task both have evidence on."""

    differences: tuple[float, ...]

    @property
    def count(self) -> int:
        return len(self.differences)

    @property
    def mean(self) -> float:
        """0.0 where nothing could be compared."""
        return sum(self.differences) / self.count if self.count else 0.0

    def __str__(self) -> str:
        return f"{self.mean:+.2f} on {self.count} tasks"


class Scoreboard:
    """Rewards by policy and task, of training rollouts and of validation, kept apart."""

    def __init__(self) -> None:
        self._rollouts: dict[str, dict[str, float | None]] = {}
        self._validation: dict[str, dict[str, float | None]] = {}
        self._lowest = 0.0

    def add(self, policy: Policy, groups: Iterable[Group]) -> None:
        """Rollouts of training tasks. A group nothing judged was run, without a reward; a stopped one was not run."""
        for group in groups:
            if any(t.status != "stopped" for t in group.trajectories):
                self._rollouts.setdefault(policy.id, {})[group.task_id] = group.mean
                self._note(group.rewards)

    def add_evaluation(self, policy: Policy, evaluation: Evaluation) -> None:
        self._validation[policy.id] = {**dict.fromkeys(evaluation.unjudged), **evaluation.scores}
        self._note(evaluation.scores.values())

    def has_run(self, policy: Policy, task_id: str) -> bool:
        return task_id in self._rollouts.get(policy.id, {})

    def reward(self, policy: Policy, task_id: str) -> float | None:
        """Of a training task; None where it was not run, or nothing judged it."""
        return self._rollouts.get(policy.id, {}).get(task_id)

    def is_validated(self, policy: Policy) -> bool:
        return policy.id in self._validation

    def mean(self, policy: Policy) -> float | None:
        """Validation mean where there is one, else the mean over its rollouts, else None."""
        known = self._validation.get(policy.id) or self._rollouts.get(policy.id, {})
        rewards = [reward for reward in known.values() if reward is not None]
        return sum(rewards) / len(rewards) if rewards else None

    def on_validation(self, policy: Policy, other: Policy) -> Comparison:
        mine, theirs = self._validation.get(policy.id, {}), self._validation.get(other.id, {})
        return self._compare(mine, theirs, mine)

    def on_tasks(self, policy: Policy, other: Policy, task_ids: Iterable[str]) -> Comparison:
        return self._compare(self._rollouts.get(policy.id, {}), self._rollouts.get(other.id, {}), task_ids)

    def on_shared_tasks(self, policy: Policy, other: Policy) -> Comparison:
        """On all training tasks both were run on."""
        return self.on_tasks(policy, other, self._rollouts.get(policy.id, {}))

    def _compare(
        self, mine: Mapping[str, float | None], theirs: Mapping[str, float | None], task_ids: Iterable[str]
    ) -> Comparison:
        pairs = [(mine[id], theirs[id]) for id in task_ids if id in mine and id in theirs]
        # Judged on one side only: the other crashed there. Leaving such tasks out would make a crash an improvement.
        judged = [(a, b) for a, b in pairs if a is not None or b is not None]
        return Comparison(tuple(self._value(a) - self._value(b) for a, b in judged))

    def _value(self, reward: float | None) -> float:
        return self._lowest if reward is None else reward

    def _note(self, rewards: Iterable[float]) -> None:
        self._lowest = min([self._lowest, *rewards])


def pooled_mean(validation: Comparison, training: Comparison) -> float:
    """Mean difference over both kinds of evidence; a validation task weighs twice, no idea was ever drawn from it."""
    weight = 2 * validation.count + training.count
    return (2 * sum(validation.differences) + sum(training.differences)) / weight if weight else 0.0
