"""Is the new policy really better? Rewards of two policies on the same tasks go in, a claim that holds comes out.

Pure arithmetic on task id → rewards. "improved" is said only when the interval of the paired difference, corrected for
the number of winners that were tried, lies above zero on tasks the search never saw. `benchmarks/verdict.py` measures
how often that is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from agentlightning.errors import DataError

Verdict = Literal["improved", "not shown", "kept original"]

Rewards = Mapping[str, Sequence[float | None]]
"""Task id → the reward of each rollout; None (or an empty list) for a rollout that ended without one. A task that was
never run to its end (budget, Ctrl-C) is not a key."""

MIN_TEST_TASKS = 6
"""With fewer tasks no interval is given and nothing is called improved: five coins in a row are too easily heads."""


class Interval(msgspec.Struct, frozen=True):
    """The mean difference on `n` tasks, where the true one may lie, and how odd it would be by luck."""

    low: float
    high: float
    mean: float
    p_value: float
    """Two-sided, corrected like the interval: below 1 − confidence exactly when the interval excludes zero."""
    n: int


class Comparison(msgspec.Struct, frozen=True):
    """One winner against the original, on the tasks that can speak for both."""

    policy_id: str
    baseline: float
    """Mean reward of the original on the compared tasks."""
    final: float
    difference: float
    differences: dict[str, float]
    """Task id → mean reward of the winner minus that of the original."""
    interval: Interval | None
    """None with fewer than `MIN_TEST_TASKS` tasks, or on tasks the search has seen."""
    notes: list[str]

    @property
    def is_shown(self) -> bool:
        return self.interval is not None and self.interval.low > 0


class Claim(msgspec.Struct, frozen=True):
    """What may be said, and which policy is handed back."""

    verdict: Verdict
    policy_id: str
    """The policy handed back; `original` when no winner scored higher."""
    best: Comparison | None
    """The winner the claim is about: the one handed back, or the nearest miss. None when nothing could be compared."""
    notes: list[str]
    compared: list[Comparison] = []
    """Every winner that could be compared; their intervals hold together."""


def paired_interval(
    differences: Sequence[float], *, reward_range: float = 1.0, confidence: float = 0.95, num_comparisons: int = 1
) -> Interval:
    """The confidence interval of a mean of differences, each within ±`reward_range` (highest minus lowest reward).

    Weigh the differences at random (uniform Dirichlet weights) together with one unseen difference at an end of the
    range: quantiles of that mean are Gaffke's bounds (2005; Learned-Miller & Thomas, arXiv 1905.06208). They need no
    shape, never collapse on identical differences, and for two-valued data are the exact Clopper-Pearson bounds. The
    unseen difference is put at the bottom and at the top in turn and the two distributions are averaged, as a mid-p
    value does; with binary rewards `p_value` is then McNemar's mid-p (Fagerland et al. 2013).

    Why not a t interval: with the usual pseudo-observations (Agresti & Min 2005) t covers as little as 89 % at n = 10
    with binary rewards, and calls up to one in seven worthless prompts improved when many small gains hide a rare large
    loss. A sign-flip test has the second fault too. Gaffke's own bounds err in at most 2.5 % whatever the distribution
    (proved for two values, conjectured and never refuted for all) but need about a quarter more tasks. Averaging can at
    most double that error, and measures ≤ 2.5 % where the rewards' distribution did not change.

    `num_comparisons` divides the error among several winners (Bonferroni). Time grows with n²: 1 s for 1,000 tasks.
    Raises DataError for no differences, or one that is not finite or not within the range.
    """
    _check(differences, reward_range)
    tail = (1 - confidence) / 2 / num_comparisons
    at_zero = probability_below(differences, 0.0, reward_range=reward_range)
    return Interval(
        low=_quantile(differences, tail, reward_range),
        high=_quantile(differences, 1 - tail, reward_range),
        mean=math.fsum(differences) / len(differences),
        p_value=min(1.0, 2 * num_comparisons * min(at_zero, 1 - at_zero)),
        n=len(differences),
    )


def probability_below(differences: Sequence[float], value: float, *, reward_range: float = 1.0) -> float:
    """How strongly the data say that the true mean is below `value`: the distribution whose quantiles are the limits.

    Uniform Dirichlet weights are exponential variables divided by their sum, so this asks whether the terms above
    `value` outweigh those below it. That is a race of exponential clocks: the next to run out is drawn by their
    rates, and by memorylessness the other starts afresh. One table answers it exactly, with no random draws.
    """
    above = [d - value for d in differences if d > value] + [reward_range - value]
    below = [value - d for d in differences if d < value] + [value + reward_range]
    # row[j]: the chance that the first j of `below` outlast the clocks of `above` taken so far.
    row = [0.0] + [1.0] * len(below)
    without_top = 1.0
    for up in above:
        without_top = row[-1]
        chance = 0.0
        for j, down in enumerate(below, start=1):
            chance = (down * row[j] + up * chance) / (up + down)
            row[j] = chance
    return (without_top + row[-2]) / 2


def verdict(
    baseline: Rewards,
    winners: Mapping[str, Rewards],
    *,
    is_held_out: bool = True,
    reward_bounds: tuple[float, float] | None = None,
    confidence: float = 0.95,
) -> Claim:
    """The one rule: what may be claimed for the winners (policy id → rewards), and which policy is handed back.

    improved: the interval, corrected for the number of winners, lies above zero. not shown: the winner's mean is
    higher, but that may be luck, or the tasks were not held out. kept original: no winner's mean is higher.

    Compared are tasks both sides ran. Where the original has no reward the task is left out; where only the winner
    ended without one, that rollout counts as the lowest reward, so a policy that breaks the agent is never flattered.
    Both are counted in the notes. `reward_bounds` defaults to 0–1, or to what was seen when a reward lies outside.
    """
    bounds, notes = _bounds([baseline, *winners.values()], reward_bounds)
    compared = [
        comparison
        for policy_id, rewards in winners.items()
        if (comparison := _compare(policy_id, baseline, rewards, bounds, is_held_out, confidence, len(winners)))
    ]
    if not compared:
        reason = ["No task has a reward under both policies."] if winners else []
        return Claim("kept original", "original", None, [*notes, *reason])
    best = max(compared, key=lambda c: (c.is_shown, c.difference))
    notes = [*notes, *best.notes, *_size_notes(best, is_held_out, len(winners), confidence)]
    if best.difference <= 0:
        return Claim("kept original", "original", best, notes, compared)
    return Claim("improved" if best.is_shown else "not shown", best.policy_id, best, notes, compared)


def tasks_needed(interval: Interval) -> int | None:
    """About how many tasks would show this mean difference, if real; None when it shows already or is not higher."""
    if interval.mean <= 0 or interval.low > 0:
        return None
    needed = interval.n * ((interval.mean - interval.low) / interval.mean) ** 2
    # Two digits: it is a rule of thumb, from an interval that shrinks with the root of n.
    unit = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return math.ceil(needed / unit) * unit


def _compare(
    policy_id: str,
    baseline: Rewards,
    winner: Rewards,
    bounds: tuple[float, float],
    is_held_out: bool,
    confidence: float,
    num_winners: int,
) -> Comparison | None:
    before = {task: _mean(given) for task, rewards in baseline.items() if (given := _given(rewards))}
    both = [task for task in before if task in winner]
    if not both:
        return None
    after = {task: _mean([bounds[0] if r is None else r for r in winner[task] or [None]]) for task in both}
    differences = {task: after[task] - before[task] for task in both}
    interval = None
    if is_held_out and len(both) >= MIN_TEST_TASKS:
        width = bounds[1] - bounds[0]
        interval = paired_interval(
            list(differences.values()), reward_range=width, confidence=confidence, num_comparisons=num_winners
        )
    return Comparison(
        policy_id=policy_id,
        baseline=_mean([before[task] for task in both]),
        final=_mean([after[task] for task in both]),
        difference=_mean(list(differences.values())),
        differences=differences,
        interval=interval,
        notes=_missing_notes(baseline, winner, before, bounds[0]),
    )


def _missing_notes(baseline: Rewards, winner: Rewards, before: Mapping[str, float], lowest: float) -> list[str]:
    notes: list[str] = []
    if unjudged := sum(task not in before for task in baseline):
        notes.append(f"{_tasks(unjudged)} left out: no rollout of the original ended with a reward there.")
    if not_run := sum(task not in winner for task in before):
        notes.append(f"{_tasks(not_run)} left out: the winner was not run to the end there.")
    broken = sum(None in (winner[task] or [None]) for task in before if task in winner)
    if broken:
        notes.append(
            f"{_tasks(broken)} where the winner had a rollout without a reward and the original has one: "
            f"that rollout counts as the lowest reward ({lowest:g}), so that failing is never an advantage."
        )
    return notes


def _size_notes(best: Comparison, is_held_out: bool, num_winners: int, confidence: float) -> list[str]:
    n = len(best.differences)
    if not is_held_out:
        return [f"{_tasks(n)}, none of them held out: the search has seen them all, so nothing is shown."]
    if best.interval is None:
        return [f"{_tasks(n)} held out: at least {MIN_TEST_TASKS} are needed before an improvement can be shown."]
    notes: list[str] = []
    if num_winners > 1:
        notes.append(
            f"{num_winners} winners were measured; the interval is widened so that {confidence:.0%} holds for all."
        )
    if needed := tasks_needed(best.interval):
        notes.append(f"If the difference is real, about {needed} held-out tasks would show it; there were {n}.")
    return notes


def _bounds(sides: Sequence[Rewards], given: tuple[float, float] | None) -> tuple[tuple[float, float], list[str]]:
    seen = [reward for side in sides for rewards in side.values() for reward in rewards if reward is not None]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if given is not None:
        if not (given[0] < given[1] and given[0] <= low and high <= given[1]):
            raise DataError(f"reward bounds {given} do not hold the rewards seen, {low:g} to {high:g}. Widen them.")
        return given, []
    if low >= 0 and high <= 1:
        return (0.0, 1.0), []
    note = f"Rewards lie outside 0 to 1; their range is taken as seen, {low:g} to {high:g}."
    return (low, high if high > low else low + 1), [note]


def _check(differences: Sequence[float], reward_range: float) -> None:
    if not differences:
        raise DataError("there is no difference to judge: no task has a reward under both policies.")
    # A mean of rounded rewards may pass the end of the range by a rounding error, never by more.
    limit = reward_range * (1 + 1e-9)
    wrong = [d for d in differences if not abs(d) <= limit]
    if wrong:
        raise DataError(
            f"a reward difference of {wrong[0]} is not within ±{reward_range:g}. "
            "Give the width of the reward scale as reward_range."
        )


def _quantile(differences: Sequence[float], probability: float, reward_range: float) -> float:
    low, high = -reward_range, reward_range
    for _ in range(24):
        middle = (low + high) / 2
        if probability_below(differences, middle, reward_range=reward_range) < probability:
            low = middle
        else:
            high = middle
    return low if probability < 0.5 else high


def _given(rewards: Sequence[float | None]) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"
