"""Does a judge agree with people? Its scores against human ratings of the same rollouts, in numbers and in words.

A judge, or a reward model, is a guess about people; before it decides anything it should be compared with some of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import msgspec

from agentlightning.errors import DataError

MIN_RATED = 10


class Agreement(msgspec.Struct, frozen=True):
    """A share with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    num: int

    def __str__(self) -> str:
        return f"{self.share:.0%} of {self.num} ({self.low:.0%} to {self.high:.0%})"


class Calibration(msgspec.Struct, frozen=True):
    """How the judge's scores lie to the people's ratings of the same rollouts."""

    num: int
    """Rollouts that both have judged."""
    verdicts: Agreement
    """Both say good (at least 0.5), or both say bad."""
    kappa: float | None
    """The same, beyond what chance would give (Cohen 1960); None when one side always says the same."""
    order: Agreement | None
    """Of two rollouts that people rate differently, the judge prefers the same one (its ties count half); the interval
    takes the pairs for as many independent ones as there are rollouts. None when people rate all alike."""
    bias: float
    """Mean of judge minus people: above zero, the judge is kinder."""
    error: float
    """Mean absolute difference."""

    def describe(self) -> str:
        """The finding, and what to make of it."""
        kappa = "" if self.kappa is None else f", kappa {self.kappa:.2f}"
        order = "" if self.order is None else f"; puts two answers in the people's order {self.order}"
        kind = "kinder" if self.bias > 0 else "stricter"
        lines = [
            f"on {self.num} rated rollouts the judge agrees with people in {self.verdicts}{kappa}{order}; "
            f"it is {kind} by {abs(self.bias):.2f}, and off by {self.error:.2f} on average"
        ]
        if self.num < MIN_RATED:
            lines.append(f"that is too few to say much: rate at least {MIN_RATED}")
        elif self.order is not None and self.order.low <= 0.5:
            lines.append("its order cannot be told from guessing: change the rubric or the model before using it")
        return ". ".join(lines) + "."


def calibrate(judged: Mapping[str, float], rated: Mapping[str, float]) -> Calibration:
    """Compare a judge's scores with people's ratings: rollout → 0 to 1, each. DataError when no rollout has both."""
    both = sorted(judged.keys() & rated.keys())
    if not both:
        raise DataError(
            "no rollout has both a judge's score and a person's rating. Rate some of those that were judged."
        )
    pairs = [(judged[rollout], rated[rollout]) for rollout in both]
    if wrong := [pair for pair in pairs if not all(math.isfinite(value) for value in pair)]:
        raise DataError(f"scores and ratings are finite numbers; this pair is {wrong[0]}")
    same = sum((score >= 0.5) == (rating >= 0.5) for score, rating in pairs)
    return Calibration(
        num=len(both),
        verdicts=agreement(same, len(both)),
        kappa=_kappa(pairs),
        order=_order(pairs),
        bias=math.fsum(score - rating for score, rating in pairs) / len(pairs),
        error=math.fsum(abs(score - rating) for score, rating in pairs) / len(pairs),
    )


def agreement(same: float, num: int, num_independent: int | None = None) -> Agreement:
    """A share of `num` with its 95 % interval (Wilson 1927), which stays inside 0–1 and is honest for few."""
    n, z = num_independent or num, 1.959964
    share = same / num
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Agreement(share, max(0.0, middle - half), min(1.0, middle + half), num)


def _kappa(pairs: Sequence[tuple[float, float]]) -> float | None:
    n = len(pairs)
    good = [sum(pair[side] >= 0.5 for pair in pairs) / n for side in (0, 1)]
    by_chance = good[0] * good[1] + (1 - good[0]) * (1 - good[1])
    seen = sum((score >= 0.5) == (rating >= 0.5) for score, rating in pairs) / n
    return None if by_chance == 1 or 0 in good or 1 in good else (seen - by_chance) / (1 - by_chance)


def _order(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    same, num = 0.0, 0
    for (score, rating), (other_score, other_rating) in combinations(pairs, 2):
        if rating != other_rating:
            num += 1
            product = (score - other_score) * (rating - other_rating)
            same += 1.0 if product > 0 else 0.5 if product == 0 else 0.0
    return agreement(same, num, min(num, len(pairs))) if num else None
