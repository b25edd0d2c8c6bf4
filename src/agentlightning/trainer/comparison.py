"""Which algorithm is better for this agent? Their results on the same held-out tasks, paired, and no more than that.

Compared is what each algorithm's search chose on validation, whether or not its run handed it back: choosing by the
held-out test and then comparing on it would flatter the worst. An algorithm that found nothing stands as the original.
Intervals are widened so that all of them hold together (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from agentlightning.trainer import wording
from agentlightning.trainer.evaluation import MIN_TEST_TASKS, Interval, paired_interval
from agentlightning.trainer.result import TrainingResult


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """One algorithm's run."""

    name: str
    run_id: str
    found: bool
    """Whether its search chose anything but the original."""
    baseline: float | None
    """Mean of the original on the tasks compared."""
    mean: float | None
    """Mean of what the search chose on the tasks compared."""
    interval: Interval | None
    """Of the difference between the two."""
    calls: int
    usd: float | None
    seconds: float
    notes: list[str] = []


class Duel(msgspec.Struct, frozen=True, kw_only=True):
    """Two algorithms on the same tasks: `first` minus `second`."""

    first: str
    second: str
    interval: Interval | None
    difference: float | None

    def sentence(self) -> str:
        if self.difference is None or self.interval is None:
            return f"{self.first} and {self.second} cannot be compared: too few held-out tasks."
        span = f"{wording.signed(self.difference)} (interval {_span(self.interval)})"
        if self.interval.low > 0 or self.interval.high < 0:
            better, worse = (self.first, self.second) if self.interval.low > 0 else (self.second, self.first)
            return f"{better} did better than {worse} here: {self.first} − {self.second} = {span}."
        return f"{self.first} − {self.second} = {span}: which of them is better is not shown."


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What may be said of several algorithms after the same budget on the same tasks."""

    contenders: list[Contender]
    duels: list[Duel]
    num_tasks: int
    """Held-out tasks that speak for all of them."""
    notes: list[str]

    def summary(self) -> str:
        """The sentences under the table."""
        lines = [duel.sentence() for duel in self.duels] if self.num_tasks else []
        return "\n".join([*lines, *self.notes])


def compare_results(results: Mapping[str, TrainingResult]) -> Comparison:
    """The comparison of finished runs of one agent, by algorithm; all had the same tasks, splits and caps."""
    sides = {name: _sides(result) for name, result in results.items()}
    tested = {name: pair for name, pair in sides.items() if pair is not None}
    tasks = sorted(set.intersection(*(set(before) for before, _ in tested.values()))) if tested else []
    original = {task: _mean([before[task] for before, _ in tested.values()]) for task in tasks}
    after = {name: tested[name][1] if name in tested else original for name in results}
    num_claims = len(results) + len(results) * (len(results) - 1) // 2
    values = [value for scores in after.values() for value in scores.values()] + list(original.values())
    low, high = (min(0.0, *values), max(1.0, *values)) if values else (0.0, 1.0)

    def interval(differences: Sequence[float]) -> Interval | None:
        if len(differences) < MIN_TEST_TASKS:
            return None
        return paired_interval(differences, reward_range=high - low, num_comparisons=num_claims)

    contenders = [
        Contender(
            name=name,
            run_id=result.run_id,
            found=name in tested,
            baseline=_mean([(tested[name][0] if name in tested else original)[task] for task in tasks]),
            mean=_mean([after[name][task] for task in tasks]),
            interval=interval([after[name][task] - tested[name][0][task] for task in tasks])
            if name in tested
            else None,
            calls=result.cost.calls,
            usd=result.cost.usd,
            seconds=result.cost.seconds,
            notes=result.notes,
        )
        for name, result in results.items()
    ]
    duels = [_duel(one, two, [after[one][task] - after[two][task] for task in tasks], interval)
             for one, two in combinations(results, 2) if one in tested or two in tested]  # fmt: skip
    return Comparison(
        contenders=contenders,
        duels=duels,
        num_tasks=len(tasks),
        notes=_notes(results, tested, len(tasks), num_claims),
    )


def _sides(result: TrainingResult) -> tuple[dict[str, float], dict[str, float]] | None:
    """Task id → reward on the held-out test, of the original and of what the search chose; None when none was held."""
    held_out = [task for task in result.tasks if task.split == "test"]
    rewards = {t.task_id: (t.baseline_reward, t.final_reward) for t in held_out}
    # A rollout that only the new version ended without a reward counts as the lowest one, as in the run's own verdict.
    judged = {
        id: (before, 0.0 if after is None else after) for id, (before, after) in rewards.items() if before is not None
    }
    if not judged or result.difference is None:
        return None
    return {id: pair[0] for id, pair in judged.items()}, {id: pair[1] for id, pair in judged.items()}


def _duel(one: str, two: str, differences: list[float], interval: Any) -> Duel:
    return Duel(first=one, second=two, interval=interval(differences), difference=_mean(differences))


def _notes(results: Mapping[str, Any], tested: Mapping[str, Any], num_tasks: int, num_claims: int) -> list[str]:
    notes = [f"{name} found nothing better on validation, so it stands as the original." for name in results
             if name not in tested]  # fmt: skip
    if not tested:
        return [*notes, "No algorithm had anything to measure on held-out tasks, so nothing can be compared."]
    if num_tasks < MIN_TEST_TASKS:
        return [*notes, f"{num_tasks} held-out tasks are too few for intervals; at least {MIN_TEST_TASKS} are needed."]
    told = f"Intervals are widened so that 95 % holds for all {num_claims} of them together."
    return [*notes, told, "One run each, with one seed: another seed may turn the order round."]


def _span(interval: Interval) -> str:
    return f"{wording.signed(interval.low)} to {wording.signed(interval.high)}"


def _mean(values: Sequence[float]) -> Any:
    return sum(values) / len(values) if values else None
