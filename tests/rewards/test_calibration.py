"""How far a judge agrees with people, with an interval that is honest for few."""

from __future__ import annotations

import math
import random

import pytest

from agentlightning.errors import DataError
from agentlightning.rewards.calibration import Agreement, agreement, calibrate


def named(values: list[float]) -> dict[str, float]:
    return {f"r-{index}": value for index, value in enumerate(values)}


def test_a_judge_that_says_what_people_say_agrees():
    ratings = [0.0, 0.25, 0.5, 0.75, 1.0] * 4
    found = calibrate(named(ratings), named(ratings))
    assert (found.verdicts.share, found.kappa, found.bias, found.error) == (1.0, 1.0, 0.0, 0.0)
    assert found.order is not None and found.order.share == 1.0 and found.order.low > 0.8
    assert "agrees with people in 100% of 20" in found.describe()


def test_a_kind_judge_keeps_the_order_and_shows_its_bias():
    ratings = [index / 20 for index in range(20)]
    found = calibrate(named([0.5 + rating / 2 for rating in ratings]), named(ratings))
    assert found.order is not None and found.order.share == 1.0
    assert found.bias == pytest.approx(0.2625) and found.kappa is None and found.verdicts.share == 0.5
    assert "it is kinder by 0.26" in found.describe()


def test_a_guessing_judge_is_told_from_a_good_one():
    chance = random.Random(0)
    ratings = [chance.random() for _ in range(40)]
    guessing = calibrate(named([chance.random() for _ in ratings]), named(ratings))
    assert guessing.order is not None and guessing.order.low < 0.5 < guessing.order.high
    assert "cannot be told from guessing" in guessing.describe()
    noisy = calibrate(named([rating + chance.gauss(0, 0.1) for rating in ratings]), named(ratings))
    assert noisy.order is not None and noisy.order.low > 0.5


def test_only_rollouts_that_both_judged_count():
    found = calibrate({"a": 1.0, "b": 0.0, "c": 1.0}, {"b": 0.0, "c": 1.0, "d": 0.0})
    assert found.num == 2 and "too few" in found.describe()
    with pytest.raises(DataError, match="no rollout has both"):
        calibrate({"a": 1.0}, {"b": 1.0})
    with pytest.raises(DataError, match="finite"):
        calibrate({"a": math.nan}, {"a": 1.0})


def test_ties_of_the_judge_count_half_and_equal_ratings_do_not():
    found = calibrate({"a": 0.5, "b": 0.5, "c": 0.5}, {"a": 1.0, "b": 0.0, "c": 0.0})
    assert found.order is not None and (found.order.share, found.order.num) == (0.5, 2)
    assert calibrate({"a": 0.1, "b": 0.5}, {"a": 1.0, "b": 1.0}).order is None


def test_the_interval_is_wilsons():
    assert agreement(8, 10) == Agreement(0.8, pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4), 10)
    assert agreement(0, 5).low == 0.0 and agreement(5, 5).high == 1.0
    assert agreement(50, 50, 10).low < agreement(50, 50).low
