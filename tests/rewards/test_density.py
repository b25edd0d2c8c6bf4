"""Repetition and padding are counted, in any script; time, money and length have a target and a limit."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from tests.rewards.cases import rollout

from agentlightning.data.call import Usage
from agentlightning.data.trajectory import Reward
from agentlightning.errors import DataError
from agentlightning.rewards.base import evaluate_reward
from agentlightning.rewards.density import information_density, no_repetition, num_units
from agentlightning.rewards.economy import brevity, cost, latency, token_cost


def judged(function: Any, output: Any = "x", params: Any = None, **fields: Any) -> Reward | None:
    return asyncio.run(evaluate_reward(functools.partial(function, **(params or {})), *rollout(None, output, **fields)))


def value(function: Any, output: Any = "x", **fields: Any) -> float:
    given = judged(function, output, **fields)
    assert given is not None and given.reason
    return given.value


def test_what_is_said_twice_lowers_the_density():
    once = "The parcel left Oslo on Monday and arrives on Thursday."
    assert value(information_density, once) == 1.0
    assert value(information_density, f"{once} {once}") == pytest.approx(0.5)
    assert value(information_density, f"{once} As said, the parcel left Oslo on Monday!") == pytest.approx(12 / 18)


def test_saying_the_question_again_carries_nothing():
    echo = "You asked: where is my parcel? It is in Oslo."
    assert value(information_density, echo) == pytest.approx(6 / 10)
    assert value(no_repetition, echo) == 1.0


def test_chinese_is_read_by_characters_and_terms_are_no_repetition():
    assert value(information_density, "自然语言处理很有用，学习自然语言处理需要时间。") == 1.0
    said = "包裹周一从奥斯陆发出，周四到达。"
    assert value(information_density, said * 2) == pytest.approx(0.5)
    assert num_units("包裹周一 arrives in 2 days") == 8


def test_no_answer_is_not_dense():
    assert value(information_density, None) == value(no_repetition, " \n") == 0.0
    assert judged(information_density, status="stopped") is None
    assert value(information_density, {"a": "b"}) == 1.0


@pytest.mark.parametrize(("seconds", "wanted"), [(0.1, 1.0), (2.0, 1.0), (6.0, 0.5), (10.0, 0.0), (99.0, 0.0)])
def test_latency_falls_from_the_target_to_the_limit(seconds: float, wanted: float):
    assert value(latency, params={"target_seconds": 2, "limit_seconds": 10}, seconds=seconds) == wanted


def test_cost_and_tokens_are_judged_where_they_are_known():
    assert value(cost, params={"target_usd": 0.01, "limit_usd": 0.03}, usd=0.02) == pytest.approx(0.5)
    assert judged(cost, params={"target_usd": 0.01, "limit_usd": 0.03}) is None
    limits = {"target_tokens": 100, "limit_tokens": 300}
    assert value(token_cost, params=limits, usage=Usage(150, 50)) == 0.5
    assert judged(token_cost, params=limits) is None
    assert judged(latency, params={"target_seconds": 1, "limit_seconds": 2}, seconds=3.0, status="stopped") is None


def test_brevity_does_not_pay_for_silence():
    limits = {"target_words": 3, "limit_words": 7}
    assert value(brevity, "one two three four five", params=limits) == 0.5
    assert value(brevity, None, params=limits) == value(brevity, "…", params=limits) == 0.0


def test_a_target_above_its_limit_is_an_error():
    with pytest.raises(DataError, match="must be below the limit"):
        judged(latency, params={"target_seconds": 5, "limit_seconds": 2}, seconds=1.0)
