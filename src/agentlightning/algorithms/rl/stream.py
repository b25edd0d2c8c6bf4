"""Which task comes next: epoch after epoch in a seeded order, remembered well enough to go on after an interruption.

Nothing is drawn twice: each visit of a task has a number of its own, which is the `draw` of its rollouts.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple

from agentlightning.algorithms.base import Session
from agentlightning.data.task import Task

_UNSURE = 0.05
"""Weight of a task that was always, or never, solved; 0.30 more for one solved every other time."""


class Visit(NamedTuple):
    """A task, for the `draw`-th time."""

    task: Task
    draw: int


class TaskStream:
    """Endless. `restored` is what `to_state` gave."""

    def __init__(self, session: Session, *, is_curriculum: bool, restored: dict[str, Any] | None = None) -> None:
        epochs = [[task.id for task in epoch.tasks] for epoch in session.epochs()]
        self.tasks = {task.id: task for task in session.training_tasks}
        self.num_epochs = len(epochs)
        self._epochs = epochs
        self._seed = session.seed
        self._is_curriculum = is_curriculum
        state = restored or {"epoch": 0, "place": 0, "visits": {}, "means": {}, "order": None}
        self.epoch: int = state["epoch"]
        self._place: int = state["place"]
        self._visits: dict[str, int] = dict(state["visits"])
        self._means: dict[str, float] = dict(state["means"])
        self._order: list[str] = state["order"] or self._ordered(self.epoch)

    def next(self) -> Visit:
        if self._place == len(self._order):
            self.epoch, self._place = self.epoch + 1, 0
            self._order = self._ordered(self.epoch)
        task = self.tasks[self._order[self._place]]
        self._place += 1
        draw = self._visits.get(task.id, 0)
        self._visits[task.id] = draw + 1
        return Visit(task, draw)

    def saw(self, task_id: str, mean_reward: float) -> None:
        """How hard the task was when it was last tried."""
        self._means[task_id] = mean_reward

    def to_state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "place": self._place,
            "visits": self._visits,
            "means": self._means,
            "order": self._order,
        }

    def _ordered(self, epoch: int) -> list[str]:
        dice = random.Random(f"{self._seed}/rl/{epoch}")
        if epoch < len(self._epochs):
            order = list(self._epochs[epoch])
        else:
            order = sorted(self.tasks)
            dice.shuffle(order)
        if not self._is_curriculum or not self._means:
            return order
        return _uncertain_first(order, self._means, dice)


def _uncertain_first(order: Sequence[str], means: dict[str, float], dice: random.Random) -> list[str]:
    """All of them, in a random order in which those near the middle of the rewards seen tend to come early.

    Drawn without replacement by weight (the exponential trick of Efraimidis and Spirakis, 2006).
    """
    low, high = min(means.values()), max(means.values())

    def lateness(task_id: str) -> float:
        share = (means[task_id] - low) / (high - low) if task_id in means and high > low else 0.5
        return dice.expovariate(1.0) / (_UNSURE + 1.2 * share * (1 - share))

    return [task_id for _, task_id in sorted((lateness(task_id), task_id) for task_id in order)]
