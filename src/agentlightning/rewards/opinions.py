"""What people said of an agent's rollouts, together with those rollouts: what a reward model and DPO learn from."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from agentlightning.data.trajectory import Trajectory
from agentlightning.rewards.feedback import Feedback, preference_pairs
from agentlightning.rewards.reward_model import Preferred


class Opinions(msgspec.Struct, frozen=True):
    """Feedback of any run, and the rollouts it speaks of, by id."""

    said: list[Feedback] = []
    rollouts: dict[str, Trajectory] = {}

    def without(self, tasks: Collection[str]) -> Opinions:
        """The same, as if nobody had said anything about rollouts of these tasks."""
        left = {id: rollout for id, rollout in self.rollouts.items() if rollout.task not in tasks}
        return Opinions([given for given in self.said if _spoken_of(given) <= left.keys()], left)

    def pairs(self) -> list[Preferred]:
        """Of two rollouts of one task, which people preferred: by choice, or by ratings that differ."""
        return self._pairs(self.said)

    def choices(self) -> list[Preferred]:
        """The pairs that people chose between directly."""
        return self._pairs([given for given in self.said if given.kind == "choice"])

    def _pairs(self, said: list[Feedback]) -> list[Preferred]:
        task_of = {id: rollout.task for id, rollout in self.rollouts.items()}
        return [
            Preferred(self.rollouts[pair.better], self.rollouts[pair.worse])
            for pair in preference_pairs(said, task_of)
            if pair.better in task_of and pair.worse in task_of
        ]


def _spoken_of(given: Feedback) -> set[str]:
    return {given.better, given.worse} if given.kind == "choice" else {given.rollout}
