"""Where did the change help, and where did it hurt? Outcomes grouped by what the tasks say of themselves.

A mean that rose can hide a kind of task that got worse. Groups come from the tasks' metadata and, where answers are
labels, from what was expected. They are small, so they are to be looked at and prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from agentlightning.trainer.result import TaskOutcome

MOST_VALUES = 12
"""A property with more values than this names tasks rather than kinds of task."""
_MAX_LABEL = 40


class Slice(msgspec.Struct, frozen=True):
    """Tasks that share a property."""

    name: str
    value: str
    count: int
    before: float
    after: float
    num_won: int
    num_lost: int


def slices(tasks: Sequence[TaskOutcome]) -> list[Slice]:
    """The groups of two and more properties' values, by property; within one the group that lost most comes first.

    Tasks that either side left unjudged are in none. A property counts if it has 2 to 12 values, on average for at
    least two tasks each.
    """
    judged = [task for task in tasks if task.outcome != "unjudged"]
    found: list[Slice] = []
    for name in dict.fromkeys(name for task in judged for name in properties(task)):
        groups: dict[str, list[TaskOutcome]] = {}
        for task in judged:
            if (value := properties(task).get(name)) is not None:
                groups.setdefault(value, []).append(task)
        if 2 <= len(groups) <= MOST_VALUES and sum(map(len, groups.values())) >= 2 * len(groups):
            made = [_slice(name, value, members) for value, members in groups.items()]
            found += sorted(made, key=lambda one: one.after - one.before)
    return found


def properties(task: TaskOutcome) -> dict[str, str]:
    """What a task says of itself in a word or two: its metadata, and a short expected answer."""
    return dict(_labels([*task.metadata.items(), ("expected", task.expected)]))


def _labels(pairs: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, value in pairs:
        if isinstance(value, str | int | bool) and len(str(value)) <= _MAX_LABEL:
            yield name, str(value)


def _slice(name: str, value: str, tasks: Sequence[TaskOutcome]) -> Slice:
    before, after = (
        sum(getattr(task, side) for task in tasks) / len(tasks) for side in ("baseline_reward", "final_reward")
    )
    outcomes = [task.outcome for task in tasks]
    return Slice(name, value, len(tasks), before, after, outcomes.count("won"), outcomes.count("lost"))
