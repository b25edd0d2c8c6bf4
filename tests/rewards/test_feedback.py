"""Ratings and choices become rewards and pairs; nobody's voice counts twice, and nothing is perfect after one win."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from agentlightning.data.trajectory import Reward
from agentlightning.errors import DataError
from agentlightning.rewards.feedback import (
    Feedback,
    Preference,
    Rating,
    preference_pairs,
    ratings,
    read_feedback,
    rewards_of,
    strengths,
)


def rated(rollout: str, value: float, rater: str = "", at: float = 0.0, comment: str = "") -> Feedback:
    return Feedback(kind="rating", rollout=rollout, value=value, rater=rater, at=at, comment=comment)


def chose(better: str, worse: str, rater: str = "") -> Feedback:
    return Feedback(kind="choice", better=better, worse=worse, rater=rater)


def test_records_are_read_oldest_first_and_unknown_fields_left_aside():
    bodies = [
        {"kind": "choice", "better": "a", "worse": "b", "rater": "Ann", "comment": "shorter", "at": 20, "more": 1},
        {"kind": "rating", "rollout": "a", "value": 1, "scale": [1, 5], "at": 10},
        {"rollout": "a", "value": 0.5, "reason": "so so", "source": "human"},
    ]
    old, rating, choice = read_feedback(bodies)
    assert (rating.value, rating.scale, choice.better, old.kind) == (1.0, [1, 5], "a", "rating")
    assert ratings([old])["a"].comments == ["so so"]


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "rating", "rollout": "a"},
        {"kind": "rating", "value": 0.5},
        {"kind": "rating", "rollout": "a", "value": 5},
        {"kind": "rating", "rollout": "a", "value": math.nan},
        {"kind": "choice", "better": "a"},
        {"kind": "choice", "better": "a", "worse": "a"},
        {"kind": "applause", "rollout": "a", "value": 1},
    ],
)
def test_feedback_that_says_nothing_is_an_error(body: dict[str, Any]):
    with pytest.raises(DataError):
        read_feedback([body])


def test_ratings_are_averaged_over_people_and_the_last_word_of_each_counts():
    given = [
        rated("a", 0.0, "Ann", 1),
        rated("a", 1.0, "Ann", 2, "better on a second look"),
        rated("a", 0.5, "Bo"),
        rated("b", 0.0),
        rated("b", 1.0),
    ]
    assert ratings(given) == {"a": Rating(0.75, 2, ["better on a second look"]), "b": Rating(0.5, 2)}
    assert ratings(given)["a"].as_reward() == Reward(
        0.75, "rated by 2 people: better on a second look", "human_feedback", "human"
    )


def test_one_win_is_good_and_not_perfect():
    found = strengths([chose("a", "b")])
    assert 0.5 < found["a"] < 0.8 and found["a"] + found["b"] == pytest.approx(1.0)
    assert strengths([chose("a", "b", f"rater {i}") for i in range(50)])["a"] > found["a"]
    assert strengths([]) == {}


def test_strengths_agree_with_an_independent_maximum_of_the_likelihood():
    given = [chose("a", "b"), chose("b", "c"), chose("a", "c"), chose("c", "b"), chose("b", "a"), chose("a", "d")]
    found = {key: math.log(value / (1 - value)) for key, value in strengths(given, prior=0.7).items()}

    def likelihood(scores: dict[str, float]) -> float:
        wins = sum(-math.log1p(math.exp(scores[each.worse] - scores[each.better])) for each in given)
        prior = sum(-math.log1p(math.exp(-s)) - math.log1p(math.exp(s)) for s in scores.values())
        return wins + 0.35 * prior

    best = likelihood(found)
    chance = random.Random(0)
    for _ in range(300):
        assert likelihood({key: value + chance.gauss(0, 0.05) for key, value in found.items()}) <= best
    for key in found:
        slope = (likelihood(found | {key: found[key] + 1e-4}) - likelihood(found | {key: found[key] - 1e-4})) / 2e-4
        assert slope == pytest.approx(0, abs=1e-5)


def test_strengths_recover_a_known_order_from_noisy_choices():
    truth = {f"r{i}": i * 0.8 for i in range(6)}
    chance = random.Random(1)
    given: list[Feedback] = []
    for number in range(600):
        first, second = chance.sample(list(truth), 2)
        wins = chance.random() < 1 / (1 + math.exp(truth[second] - truth[first]))
        given.append(chose(first, second, f"{number}") if wins else chose(second, first, f"{number}"))
    found = strengths(given)
    assert sorted(found, key=found.__getitem__) == sorted(truth, key=truth.__getitem__)


def test_changing_ones_mind_is_one_voice():
    assert strengths([chose("a", "b", "Ann"), chose("b", "a", "Ann")]) == strengths([chose("b", "a", "Ann")])


def test_ratings_count_before_choices():
    found = rewards_of([rated("a", 0.2), chose("a", "b"), chose("a", "b")])
    assert (found["a"].value, found["a"].source) == (0.2, "human")
    assert found["b"].value < 0.5 and found["b"].reason == "preferred 0 of 2 times"


def test_pairs_come_from_majorities_and_from_ratings_of_the_same_task():
    given = [
        *(chose("a", "b", rater) for rater in ("Ann", "Bo")),
        chose("b", "a", "Cy"),
        chose("c", "d", "Ann"),
        chose("d", "c", "Bo"),
        rated("a", 0.1),
        rated("b", 0.9),
        rated("c", 0.5),
        rated("e", 0.9),
        rated("f", 0.1),
    ]
    task_of = {"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "2"}
    assert preference_pairs(given, task_of) == [
        Preference("a", "b", 1.0),  # people chose, whatever the ratings say
        Preference("b", "c", pytest.approx(0.4)),
        Preference("c", "a", pytest.approx(0.4)),
        Preference("e", "a", pytest.approx(0.8)),
        Preference("e", "c", pytest.approx(0.4)),
    ]
    assert preference_pairs(given) == [Preference("a", "b", 1.0)]
    assert preference_pairs([chose("a", "f")], task_of) == []
