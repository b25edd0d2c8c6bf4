"""What people said about rollouts, as rewards and as preference pairs. Pure: records in, numbers out.

Two kinds: a rating of one rollout, and a choice between two. Ratings of several people are averaged, one voice each;
choices become strengths by the Bradley–Terry model (Biometrika 1952), fitted by minorisation (Hunter 2004, Annals of
Statistics 32). Where a rollout has both, its ratings count: they say how good it is, choices only than what.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import msgspec

from agentlightning.data.opinion import Feedback
from agentlightning.data.trajectory import Reward
from agentlightning.errors import DataError


class Rating(msgspec.Struct, frozen=True):
    """What people think of one rollout, 0 to 1, averaged over raters."""

    value: float
    num_raters: int
    comments: list[str] = []

    def as_reward(self, name: str = "human_feedback") -> Reward:
        raters = "1 person" if self.num_raters == 1 else f"{self.num_raters} people"
        said = f": {self.comments[-1]}" if self.comments else ""
        return Reward(self.value, f"rated by {raters}{said}", name=name, source="human")


class Preference(msgspec.Struct, frozen=True):
    """One rollout preferred to another, by how many more voices than said the opposite."""

    better: str
    worse: str
    margin: float = 1.0
    """Votes of choices; the difference of two ratings."""


def read_feedback(bodies: Iterable[Mapping[str, Any]]) -> list[Feedback]:
    """Feedback from record bodies, oldest first. DataError for one that says nothing, or nonsense."""
    return sorted((_checked(body) for body in bodies), key=lambda given: given.at)


def _checked(body: Mapping[str, Any]) -> Feedback:
    try:
        given = msgspec.convert(dict(body), Feedback, strict=False)
    except msgspec.ValidationError as error:
        raise DataError(f"this is no feedback record: {error}; it says {str(dict(body))[:200]}") from error
    if given.kind == "rating" and not (given.rollout and given.value is not None and 0 <= given.value <= 1):
        raise DataError(f"a rating names a rollout and has a value from 0 to 1; this one says {str(dict(body))[:200]}")
    if given.kind == "choice" and not (given.better and given.worse and given.better != given.worse):
        raise DataError(f"a choice names two rollouts, better and worse; this one says {str(dict(body))[:200]}")
    return given


def ratings(feedback: Iterable[Feedback]) -> dict[str, Rating]:
    """Rollout → its rating. Of one person's ratings of a rollout the last counts; nameless ones count each."""
    last: dict[tuple[str, str], Feedback] = {}
    for index, given in enumerate(feedback):
        if given.kind == "rating":
            last[given.rollout, given.rater or f"nameless {index}"] = given
    by_rollout: dict[str, list[Feedback]] = defaultdict(list)
    for given in last.values():
        by_rollout[given.rollout].append(given)
    return {rollout: _averaged(given) for rollout, given in by_rollout.items()}


def _averaged(given: Sequence[Feedback]) -> Rating:
    values = [each.value for each in given if each.value is not None]
    return Rating(
        math.fsum(values) / len(values), len(given), [said for each in given if (said := each.comment or each.reason)]
    )


def strengths(feedback: Iterable[Feedback], *, prior: float = 1.0) -> dict[str, float]:
    """Rollout → the chance, 0 to 1, that people would prefer it to an average one.

    Bradley–Terry with a prior: each rollout has `prior` half-won games against an average one, so a rollout that won
    its only comparison is good, not perfect, and the fit exists and is unique for any set of choices. Rollouts that
    no chain of choices connects are comparable through that average alone.
    """
    if not prior > 0:
        raise DataError(f"prior is a positive number of games; this is {prior!r}")
    games: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    wins: dict[str, float] = defaultdict(float)
    for given in _last_choices(feedback):
        wins[given.better] += 1
        wins[given.worse] += 0
        games[given.better][given.worse] += 1
        games[given.worse][given.better] += 1
    strength = dict.fromkeys(wins, 1.0)
    for _ in range(10_000):
        moved = 0.0
        for rollout in strength:
            met = math.fsum(n / (strength[rollout] + strength[other]) for other, n in games[rollout].items())
            better = (wins[rollout] + prior / 2) / (met + prior / (strength[rollout] + 1.0))
            moved = max(moved, abs(math.log(better / strength[rollout])))
            strength[rollout] = better
        if moved < 1e-10:
            break
    return {rollout: value / (1.0 + value) for rollout, value in strength.items()}


def _last_choices(feedback: Iterable[Feedback]) -> list[Feedback]:
    """A person who compares the same two again changes their mind; nameless choices count each."""
    last: dict[tuple[Any, ...], Feedback] = {}
    for index, given in enumerate(feedback):
        if given.kind == "choice":
            pair = (*sorted((given.better, given.worse)), given.rater or f"nameless {index}")
            last[pair] = given
    return list(last.values())


def rewards_of(feedback: Sequence[Feedback], *, prior: float = 1.0) -> dict[str, Reward]:
    """Rollout → the reward people gave it: its mean rating, else its strength among those it was compared with."""
    compared = strengths(feedback, prior=prior)
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for given in _last_choices(feedback):
        counts[given.better][0] += 1
        counts[given.worse][1] += 1
    chosen = {
        rollout: Reward(
            value, f"preferred {counts[rollout][0]} of {sum(counts[rollout])} times", "human_feedback", "human"
        )
        for rollout, value in compared.items()
    }
    return chosen | {rollout: rating.as_reward() for rollout, rating in ratings(feedback).items()}


def preference_pairs(
    feedback: Sequence[Feedback], task_of: Mapping[str, str] | None = None, *, min_margin: float = 0.2
) -> list[Preference]:
    """Who was preferred to whom: what DPO and a reward model learn from, in a fixed order.

    From choices: the majority for each two rollouts; a draw is left out. From ratings: two rollouts of the same task
    (`task_of`: rollout → task; without it ratings give no pairs) whose ratings differ by `min_margin`, unless people
    chose between the two directly. Choices between rollouts of different tasks are left out where `task_of` knows both.
    """
    tasks = task_of or {}
    votes: dict[tuple[str, str], int] = defaultdict(int)
    for given in _last_choices(feedback):
        first, second = sorted((given.better, given.worse))
        if first not in tasks or second not in tasks or tasks[first] == tasks[second]:
            votes[first, second] += 1 if given.better == first else -1
    pairs = [
        Preference(*(pair if balance > 0 else pair[::-1]), margin=float(abs(balance)))
        for pair, balance in votes.items()
        if balance
    ]
    rated = ratings(feedback)
    by_task: dict[str, list[str]] = defaultdict(list)
    for rollout in rated:
        if rollout in tasks:
            by_task[tasks[rollout]].append(rollout)
    for rollouts in by_task.values():
        for first, second in combinations(sorted(rollouts), 2):
            difference = rated[first].value - rated[second].value
            if abs(difference) >= min_margin and (first, second) not in votes:
                better, worse = (first, second) if difference > 0 else (second, first)
                pairs.append(Preference(better, worse, abs(difference)))
    return sorted(pairs, key=lambda pair: (pair.better, pair.worse))
