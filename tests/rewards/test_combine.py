"""Rewards with settings, and weighted sums of them: what is not known is refused, what cannot judge is never a zero."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from tests.rewards.cases import rollout

from agentlightning.data.trajectory import Reward
from agentlightning.errors import ConfigError, DataError, ModelError
from agentlightning.rewards import ALIASES, REWARDS
from agentlightning.rewards.base import Services, bound, evaluate_reward, reward, reward_mark
from agentlightning.rewards.combine import Part, WeightedSum, describe_reward, equal_shares
from agentlightning.rewards.economy import latency
from agentlightning.rewards.judge import JudgeReward
from agentlightning.rewards.matching import exact_match, numeric_match
from agentlightning.rewards.params import with_params


def judged(function: Any, expected: Any = None, output: Any = "x", **fields: Any) -> Reward | None:
    return asyncio.run(evaluate_reward(function, *rollout(expected, output, **fields)))


def made(found: Any, base_dir: Path = Path(), **params: Any) -> Any:
    return with_params(found, "mine", params, base_dir)


def parts(*functions: Any, weights: Any = None) -> WeightedSum:
    shares = weights or [1 / len(functions)] * len(functions)
    return WeightedSum(
        [Part(each, weight, reward_mark(each).name) for each, weight in zip(functions, shares, strict=True)]
    )


def test_settings_are_given_to_the_function():
    given = judged(made(numeric_match, relative_tolerance=0.5), expected=100, output="140")
    assert given is not None and (given.value, given.name) == (1.0, "numeric_match")
    assert judged(made(numeric_match), expected=100, output="140").value == 0.0  # type: ignore[union-attr]


def test_a_class_is_made_with_its_settings(tmp_path: Path):
    class Longer:
        def __init__(self, than: int, base_dir: Path) -> None:
            self.than = than
            self.base_dir = base_dir

        def __call__(self, task: Any, trajectory: Any) -> float:
            return float(len(trajectory.output) > self.than)

    built = made(Longer, tmp_path, than=2)
    assert built.base_dir == tmp_path
    assert judged(built, output="abc") == Reward(1.0, name="Longer")


def test_relative_paths_start_where_the_configuration_lies(tmp_path: Path):
    (tmp_path / "rubric.md").write_text("Is it kind?")
    assert made(JudgeReward, tmp_path, rubric_file="rubric.md").rubric == "Is it kind?"
    with pytest.raises(ConfigError, match="nowhere.md"):
        made(JudgeReward, tmp_path, rubric_file="nowhere.md")


@pytest.mark.parametrize(
    ("found", "params", "why"),
    [
        (numeric_match, {"tolerance": 1}, "has no setting 'tolerance'. Did you mean 'relative_tolerance'"),
        (exact_match, {"x": 1}, "It has none"),
        (latency, {}, "needs target_seconds, limit_seconds"),
        (latency, {"target_seconds": 1}, "needs limit_seconds"),
        (latency, {"target_seconds": "soon", "limit_seconds": 2}, "target_seconds is 'soon'. Input should be a valid"),
        (JudgeReward, {"rubrik": "x"}, "Did you mean 'rubric'"),
        (JudgeReward, {"rubric": "x", "rubric_file": "y"}, "both"),
        (3, {}, "is a int, not a function"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_run(found: Any, params: Any, why: str):
    with pytest.raises(ConfigError, match=why):
        made(found, **params)


def test_a_reward_of_ones_own_may_have_settings_without_types():
    def mine(task: Any, trajectory: Any, floor, **more) -> float:  # type: ignore[no-untyped-def]
        return floor + more["extra"]

    assert judged(made(mine, floor=0.25, extra=0.5)) == Reward(0.75, name="mine")


def test_settings_keep_the_name_and_kind_a_reward_was_marked_with():
    @reward(name="tone", metric=True)
    def mine(task: Any, trajectory: Any, *, level: float) -> float:
        return level

    assert judged(made(mine, level=0.5)) == Reward(0.5, name="tone", is_metric=True)


def test_a_weighted_sum_adds_up_and_says_how():
    async def half(task: Any, trajectory: Any) -> tuple[float, str]:
        return 0.5, "so so"

    given = judged(parts(exact_match, half, weights=[0.75, -0.5]), expected="x")
    assert given is not None and (given.value, given.name) == (0.5, "weighted_sum")
    assert given.reason == ("exact_match 1 (weight 0.75): the output is exactly 'x'; half 0.5 (weight -0.5): so so")


def test_a_part_that_cannot_judge_leaves_no_value():
    assert judged(parts(exact_match, lambda task, trajectory: 1.0)) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, "high"])
def test_a_part_that_fails_is_an_error_and_never_a_zero(bad: Any):
    with pytest.raises(DataError, match="broken"):

        def broken(task: Any, trajectory: Any) -> Any:
            return bad

        judged(parts(exact_match, broken), expected="x")


def test_a_part_whose_judge_is_down_passes_that_on():
    def down(task: Any, trajectory: Any) -> float:
        raise ModelError("the judge is down")

    with pytest.raises(ModelError, match="the judge is down"):
        judged(parts(exact_match, down), expected="x")


def test_parts_are_bound_to_the_run():
    both = parts(exact_match, JudgeReward())
    with pytest.raises(ConfigError, match=r"models\.judge"):
        bound(both, Services())
    assert describe_reward(parts(exact_match, latency)) == "0.5 × exact_match + 0.5 × latency"
    assert describe_reward(exact_match) == "the reward function exact_match"


def test_weights_are_all_given_or_none():
    assert equal_shares(["a", "b"], [None, None]) == [0.5, 0.5]
    assert equal_shares(["a", "b"], [0.7, 0.6]) == [0.7, 0.6]
    with pytest.raises(ConfigError, match="'b' has no weight"):
        equal_shares(["a", "b"], [0.7, None])
    with pytest.raises(ConfigError, match="finite"):
        WeightedSum([Part(exact_match, math.nan, "a")])


def test_chinese_names_lead_to_rewards():
    assert set(ALIASES.values()) <= REWARDS.builtin.keys()
