"""Baselines: what a score is compared with, and in what unit. Pure functions over the scores of plays.

Scores come in groups (the plays of one task). Each function gives every score a `Standard`; the advantage is
`(score - baseline) / scale`. All counts are counts of plays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

ZERO = 1e-9
"""Below this an advantage is rounding."""


class Standard(NamedTuple):
    """What a score is measured against."""

    baseline: float
    scale: float

    def advantage(self, value: float) -> float:
        return (value - self.baseline) / self.scale


Scores = Sequence[Sequence[float]]
Estimator = Callable[[Scores, float], list[list[Standard]]]


def relative(groups: Scores, floor: float) -> list[list[Standard]]:
    """GRPO (arXiv 2402.03300, §4.1.2): the group's mean, in units of its standard deviation (n - 1) plus `floor`.

    Biased twice, and used all the same: a score is part of its own baseline (advantages shrink by (n - 1)/n), and
    tasks whose scores vary little weigh more.
    """
    return [[Standard(mean(scores), deviation(scores) + floor or 1.0)] * len(scores) for scores in groups]


def centred(groups: Scores, floor: float) -> list[list[Standard]]:
    """Dr. GRPO (arXiv 2503.20783): the group's mean only, so no task weighs more for being nearly solved."""
    return [[Standard(mean(scores), 1.0)] * len(scores) for scores in groups]


def leave_one_out(groups: Scores, floor: float) -> list[list[Standard]]:
    """RLOO (arXiv 2402.14740): the mean of the others. Unbiased. A group of one has no others and gets itself."""
    return [[Standard(_mean_without(scores, i), 1.0) for i in range(len(scores))] for scores in groups]


def whitened(groups: Scores, floor: float) -> list[list[Standard]]:
    """REINFORCE++ (arXiv 2501.03262): mean and deviation of the whole batch; groups play no part.

    Hard tasks are pushed down and easy ones up as a whole, which costs variance; it needs no groups, though.
    """
    everything = [score for scores in groups for score in scores]
    standard = Standard(mean(everything), deviation(everything) + floor or 1.0)
    return [[standard] * len(scores) for scores in groups]


ESTIMATORS: dict[str, Estimator] = {
    "relative": relative,
    "centred": centred,
    "leave_one_out": leave_one_out,
    "whitened": whitened,
}


def gae(rewards: Sequence[float], values: Sequence[float], discount: float, trust: float) -> list[float]:
    """Generalised advantage estimates (arXiv 1506.02438, eq. 16) of the turns of one play that has ended.

    `values[t]` is what the critic expects before turn t; after the last turn nothing is expected. Biased by the
    critic's error unless `trust` (lambda) is 1.
    """
    advantages: list[float] = []
    following, value_after = 0.0, 0.0
    for reward, value in zip(reversed(rewards), reversed(values), strict=True):
        following = reward + discount * value_after - value + discount * trust * following
        value_after = value
        advantages.append(following)
    return advantages[::-1]


def returns_to_go(rewards: Sequence[float], discounts: Sequence[float]) -> list[float]:
    """What is still to come at each turn: its reward, plus what follows times `discounts[t]` (from turn t to t + 1)."""
    found: list[float] = []
    following = 0.0
    for reward, discount in zip(reversed(rewards), reversed(discounts), strict=True):
        following = reward + discount * following
        found.append(following)
    return found[::-1]


def mean(scores: Sequence[float]) -> float:
    """0.0 of nothing."""
    return math.fsum(scores) / len(scores) if scores else 0.0


def deviation(scores: Sequence[float]) -> float:
    """Of a sample (n - 1); 0.0 of fewer than two."""
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)
    return math.sqrt(math.fsum((score - centre) ** 2 for score in scores) / (len(scores) - 1))


def _mean_without(scores: Sequence[float], index: int) -> float:
    others = [score for i, score in enumerate(scores) if i != index]
    return mean(others) if others else scores[index]
