"""Matching rewards judge, and their reasons teach."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.rewards.cases import rollout

from agentlightning.data.trajectory import Reward
from agentlightning.rewards.matching import (
    contains,
    exact_match,
    expected_match,
    fuzzy_match,
    json_valid,
    numeric_match,
    task_success_rate,
)

COMPARING = [exact_match, expected_match, fuzzy_match, numeric_match, contains]


def said(function: Any, expected: Any, output: Any) -> tuple[float, str]:
    given = function(*rollout(expected, output))
    assert given is not None and given.reason is not None and given.source == "expected"
    return given.value, given.reason


@pytest.mark.parametrize(
    ("expected", "output", "reason"),
    [
        (
            "shipping",
            "I think it is shipping.",
            "expected 'shipping', got 'I think it is shipping.' (the answer stands inside a longer text)",
        ),
        ("shipping", "billing", "expected 'shipping', got 'billing'"),
        ("shipping", " ", "expected 'shipping', got ' ' (there is no answer)"),
        ("shipping", None, "expected 'shipping', got None (there is no answer)"),
        ("shipping", ["shipping"], "(the output is structured; the expected answer is a plain value)"),
        ("42", "45", "expected '42', got '45' (off by 3)"),
        ("$42", "€42", "(another currency)"),
        (42, "no idea", "(there is no number in it)"),
        ({"a": 1}, "a is 1", "expected JSON, got text that is not JSON: 'a is 1'"),
        ({"a": 1}, '{"a": 2}', "at $.a: expected 1, got 2"),
    ],
)
def test_a_wrong_answer_is_zero_and_says_what_kind_of_wrong(expected: Any, output: Any, reason: str) -> None:
    value, given = said(expected_match, expected, output)
    assert value == 0
    assert reason in given


@pytest.mark.parametrize(
    ("expected", "output"), [("Shipping", '"shipping."'), (42, "$42.00"), ({"a": [1]}, '```\n{"a": [1.0]}\n```')]
)
def test_a_right_answer_is_one(expected: Any, output: Any) -> None:
    assert said(expected_match, expected, output)[0] == 1


def test_one_of_several_answers_is_enough() -> None:
    expected = {"any_of": ["yes", "it is", ["a"]]}
    assert said(expected_match, expected, "It is!")[0] == 1
    value, reason = said(expected_match, expected, "no")
    assert value == 0
    assert reason == "expected 'yes', got 'no' (nor is it any of the 2 alternatives)"
    assert said(expected_match, {"any_of": ["yes"], "b": 1}, "yes")[0] == 0


def test_an_exact_match_forgives_nothing_but_says_how_close_it_was() -> None:
    assert said(exact_match, "Yes", "Yes")[0] == 1
    assert said(exact_match, {"a": 1}, {"a": 1})[0] == 1
    value, reason = said(exact_match, "Yes", "yes.")
    assert value == 0
    assert "only case, white space, punctuation or notation differ" in reason
    assert said(exact_match, 1, True)[0] == 0
    assert said(exact_match, 7, "7")[0] == 1
    assert said(exact_match, 7, "7.0")[0] == 0


def test_contains_wants_whole_words() -> None:
    assert said(contains, "in transit", "Your parcel is IN TRANSIT, be patient")[0] == 1
    assert said(contains, "cat", "concatenate") == (0, "expected 'cat' somewhere in the output, got 'concatenate'")


def test_a_fuzzy_match_is_a_share() -> None:
    assert said(fuzzy_match, "abcd", "ABCD")[0] == 1
    value, reason = said(fuzzy_match, "abcd", "abxx")
    assert value == pytest.approx(0.5)
    assert reason.startswith("50% the same as 'abcd'")
    assert said(fuzzy_match, " ".join(map(str, range(900))), " ".join(map(str, range(899))))[0] > 0.99


def test_a_numeric_match_reads_the_last_number_and_allows_for_rounding() -> None:
    assert said(numeric_match, 100, "From 3 boxes you get about 100.5")[0] == 1
    assert said(numeric_match, 100, "102") == (0, "102 (read from '102') is not within 0.01 of 100, relatively")
    assert said(partial(numeric_match, relative_tolerance=0.05), 100, "102")[0] == 1
    assert "got no number" in said(numeric_match, 100, "a lot")[1]
    with pytest.raises(ValueError, match="needs a number as the expected answer"):
        numeric_match(*rollout("many", "100"))


@pytest.mark.parametrize(
    ("output", "value"), [('{"a": 1}', 1), ("```json\n[]\n```", 1), ({"a": 1}, 1), ("a: 1", 0), ("", 0), (None, 0)]
)
def test_json_is_valid_or_not_whatever_was_expected(output: Any, value: float) -> None:
    given = json_valid(*rollout(None, output))
    assert given is not None and given.value == value


def test_the_emitted_reward_comes_first_and_the_last_one_counts() -> None:
    emitted = [Reward(0.2, source="emitted"), Reward(0.7, source="emitted")]
    tone = Reward(0.1, name="tone", source="emitted", is_metric=True)
    given = task_success_rate(*rollout("a", "b", rewards=[*emitted, tone, Reward(0.9, source="human")]))
    assert given == emitted[-1]
    assert task_success_rate(*rollout("a", "a", error="emit_reward was given nan, which is no finite number")) is None
    about_one_answer = Reward(0.25, source="emitted", step=0)
    assert task_success_rate(*rollout("a", "a", rewards=[about_one_answer])).value == 1.0  # type: ignore[union-attr]
    given = task_success_rate(*rollout("a", "A"))
    assert given is not None and (given.value, given.source) == (1, "expected")


@pytest.mark.parametrize("function", [*COMPARING, task_success_rate])
def test_nothing_expected_is_nothing_judged(function: Any) -> None:
    assert function(*rollout(None, "x")) is None


@pytest.mark.parametrize("function", [*COMPARING, task_success_rate, json_valid])
def test_a_stopped_rollout_is_not_judged(function: Any) -> None:
    assert function(*rollout("7", None, status="stopped")) is None


@pytest.mark.parametrize("function", COMPARING)
@pytest.mark.parametrize("status", ["failed", "timeout"])
def test_an_agent_that_failed_gets_nothing_and_its_error_is_the_reason(function: Any, status: Any) -> None:
    given = function(*rollout("7", None, status=status, error="ValueError: no such order"))
    assert given is not None and given.value == 0
    assert given.reason == f"the agent gave no answer ({status}): ValueError: no such order"


def test_a_huge_output_makes_a_short_reason() -> None:
    value, reason = said(expected_match, "x", "y" * 10_000)
    assert value == 0
    assert len(reason) < 300


def test_every_reward_function_is_known_by_its_name() -> None:
    from importlib import import_module

    from agentlightning.rewards import REWARDS

    modules = {path.partition(":")[0] for path in REWARDS.builtin.values()}
    found = [vars(import_module(module)).items() for module in modules]
    marked = {name for items in found for name, value in items if hasattr(value, "agentlightning_reward")}
    functions = {name for name, path in REWARDS.builtin.items() if path.partition(":")[2] == name}
    assert marked == functions and {"exact_match", "sql_execution", "latency"} <= functions
