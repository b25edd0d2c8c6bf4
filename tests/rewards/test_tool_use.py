"""Tool calls are compared one to one with those the task expects."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from tests.rewards.cases import rollout

from agentlightning.data.call import Reply
from agentlightning.data.trajectory import Reward, Step
from agentlightning.errors import DataError
from agentlightning.rewards.base import evaluate_reward
from agentlightning.rewards.tool_use import no_duplicate_calls, tool_use

SEARCH = ("search", {"q": "cats", "limit": 3})
BOOK = ("book", {"day": "Monday"})


def steps(*calls: tuple[str, Any], agent: str = "a") -> list[Step]:
    shared: dict[str, Any] = {"rollout_id": "r-1", "kind": "tool", "agent": agent, "started_at": 0.0}
    return [Step(id=f"s{i}", index=i, name=n, arguments=a, **shared) for i, (n, a) in enumerate(calls)]


def judged(expected: Any, *made: tuple[str, Any], status: Any = "succeeded", **params: Any) -> Reward | None:
    task, trajectory = rollout(output="done", steps=steps(*made), status=status)
    task.metadata.update({} if expected is None else {"tool_calls": expected})
    return asyncio.run(evaluate_reward(functools.partial(tool_use, **params), task, trajectory))


def value(*args: Any, **params: Any) -> float:
    given = judged(*args, **params)
    assert given is not None and given.reason
    return given.value


def test_expected_calls_by_name_and_by_arguments():
    assert value(["search"], SEARCH) == 1.0
    assert value([{"name": "search", "arguments": {"q": "Cats"}}], SEARCH) == 1.0
    assert value([{"name": "search", "arguments": {"q": "dogs"}}], SEARCH) == 0.0
    assert value([{"name": "search", "arguments": {"q": "cats"}}], SEARCH, exact_arguments=True) == 0.0
    assert value([{"name": "search", "arguments": SEARCH[1]}], SEARCH, exact_arguments=True) == 1.0


def test_missing_and_unexpected_calls_count_against():
    assert value(["search", "book"], SEARCH) == 0.5
    assert value(["search"], SEARCH, BOOK) == 0.5
    assert value(["search"], SEARCH, BOOK, allow_extra=True) == 1.0
    assert value(["search"], SEARCH, SEARCH) == 0.5
    assert value([], SEARCH) == 0.0
    assert value([]) == 1.0


def test_a_general_expectation_does_not_take_the_call_of_a_special_one():
    expected = ["search", {"name": "search", "arguments": {"q": "cats"}}]
    assert value(expected, SEARCH, ("search", {"q": "dogs"})) == 1.0


def test_order_counts_when_asked_for():
    assert value(["book", "search"], SEARCH, BOOK) == 1.0
    given = judged(["book", "search"], SEARCH, BOOK, is_ordered=True, allow_extra=True)
    assert given is not None and given.value == 0.5 and "out of order" in (given.reason or "")
    assert value(["search", "book", "search"], SEARCH, BOOK, SEARCH, is_ordered=True) == 1.0


def test_the_reason_shows_what_was_called_instead():
    given = judged([{"name": "search", "arguments": {"q": "dogs"}}], SEARCH)
    assert given is not None and given.reason is not None
    assert "missing: search(q='dogs') (called as search(q='cats', limit=3))" in given.reason
    assert "not expected: search(q='cats', limit=3)" in given.reason


def test_calls_that_models_asked_for_count_where_no_tool_step_was_seen():
    message = {"role": "assistant", "tool_calls": [{"function": {"name": "search", "arguments": '{"q": "cats"}'}}]}
    step = Step(id="s", rollout_id="r-1", index=0, kind="model", agent="a", started_at=0.0, reply=Reply(message))
    task, trajectory = rollout(output="done", steps=[step])
    task.metadata["tool_calls"] = [{"name": "search", "arguments": {"q": "cats"}}]
    given = asyncio.run(evaluate_reward(tool_use, task, trajectory))
    assert given is not None and given.value == 1.0


def test_without_expected_calls_or_when_stopped_it_does_not_judge():
    assert judged(None, SEARCH) is None
    assert judged(["search"], SEARCH, status="stopped") is None


@pytest.mark.parametrize("expected", ["search", [3], [{"arguments": {}}]])
def test_a_broken_task_is_an_error(expected: Any):
    with pytest.raises(DataError, match="task t-1"):
        judged(expected, SEARCH)


def test_repeated_calls_of_a_team_are_counted():
    task, trajectory = rollout(output="done", steps=[*steps(SEARCH, BOOK), *steps(SEARCH, agent="b")])
    given = asyncio.run(evaluate_reward(no_duplicate_calls, task, trajectory))
    assert given is not None and given.value == pytest.approx(2 / 3) and "1 of 3" in (given.reason or "")
    assert asyncio.run(evaluate_reward(no_duplicate_calls, *rollout(output="x"))) is None
