"""Whatever a reward function does, the trainer gets a finite Reward, None, or an error that names the function."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.rewards.cases import rollout
from tests.rewards.linear_engine import LinearEngine

from agentlightning.data.call import Reply, Usage
from agentlightning.data.trajectory import Reward, Step
from agentlightning.errors import BudgetExhausted, DataError, ModelError
from agentlightning.rewards import REWARDS
from agentlightning.rewards.base import Services, bound, evaluate_reward, reward, reward_mark
from agentlightning.rewards.opinions import Opinions
from agentlightning.rewards.params import with_params


def judged(function: Any, *, expected: Any = None, output: Any = "x") -> Reward | None:
    return asyncio.run(evaluate_reward(function, *rollout(expected, output)))


@pytest.mark.parametrize(
    ("given", "value", "reason"),
    [
        (0.5, 0.5, None),
        (1, 1.0, None),
        (True, 1.0, None),
        (False, 0.0, None),
        (Decimal("0.25"), 0.25, None),
        (-3, -3.0, None),
        ((0.5, "half right"), 0.5, "half right"),
        ((True, None), 1.0, None),
        (Reward(0.5, "so so"), 0.5, "so so"),
    ],
)
def test_a_number_a_pair_or_a_reward_is_a_reward(given: Any, value: float, reason: str | None) -> None:
    def mine(task: Any, trajectory: Any) -> Any:
        return given

    assert judged(mine) == Reward(value, reason, name="mine")


def test_none_means_it_cannot_judge() -> None:
    assert judged(lambda task, trajectory: None) is None


def test_an_async_function_is_awaited() -> None:
    async def slowly(task: Any, trajectory: Any) -> float:
        await asyncio.sleep(0)
        return 0.25

    assert judged(slowly) == Reward(0.25, name="slowly")
    assert judged(lambda task, trajectory: slowly(task, trajectory)).value == 0.25  # type: ignore[union-attr]


def test_a_slow_synchronous_function_holds_up_nobody() -> None:
    asked, answered = threading.Event(), threading.Event()

    def waits(task: Any, trajectory: Any) -> bool:
        asked.set()
        return answered.wait(5)

    async def judge_two() -> tuple[Any, Any]:
        first = asyncio.create_task(evaluate_reward(waits, *rollout()))
        while not asked.is_set():
            await asyncio.sleep(0)
        second = await evaluate_reward(lambda task, trajectory: 0.5, *rollout())
        answered.set()
        return await first, second

    first, second = asyncio.run(judge_two())
    assert (first.value, second.value) == (1.0, 0.5)


@pytest.mark.parametrize(
    "given", [float("nan"), float("inf"), "0.5", b"1", "good", [1.0], {"score": 1}, (1, 2), (1, "a", "b"), object()]
)
def test_what_is_no_reward_is_an_error_that_says_what_is(given: Any) -> None:
    def mine(task: Any, trajectory: Any) -> Any:
        return given

    with pytest.raises(DataError, match=r"reward 'mine' on rollout r-1 \(task t-1\) returned [^$]*finite number"):
        judged(mine)


def test_a_function_that_raises_is_an_error_and_never_a_zero() -> None:
    def mine(task: Any, trajectory: Any) -> float:
        return {}["score"]

    with pytest.raises(
        DataError, match=r"reward 'mine' on rollout r-1 \(task t-1\) raised KeyError: 'score'"
    ) as caught:
        judged(mine)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_function_that_runs_out_of_an_iterator_does_not_hang() -> None:
    with pytest.raises(DataError, match="StopIteration"):
        judged(lambda task, trajectory: next(iter([])))


@pytest.mark.parametrize("error", [ModelError("the judge is down"), BudgetExhausted("no calls left")])
def test_a_judge_that_is_down_and_a_spent_budget_are_not_the_functions_fault(error: Exception) -> None:
    def mine(task: Any, trajectory: Any) -> float:
        raise error

    with pytest.raises(type(error), match=str(error)):
        judged(mine)


def test_the_decorator_names_a_function_and_can_make_it_a_metric() -> None:
    @reward
    def plain(task: Any, trajectory: Any) -> float:
        return 1

    @reward(name="politeness", metric=True)
    async def other(task: Any, trajectory: Any) -> float:
        return 0.5

    assert judged(plain) == Reward(1, name="plain")
    assert judged(other) == Reward(0.5, name="politeness", is_metric=True)
    assert plain(None, None) == 1
    with pytest.raises(DataError, match="@reward"):
        reward(3)  # type: ignore[arg-type]


def test_a_reward_keeps_the_name_and_source_it_came_with() -> None:
    given = Reward(0.5, name="tone", source="human")
    assert judged(lambda task, trajectory: given) == given


def test_a_partial_has_the_name_of_its_function() -> None:
    assert reward_mark(functools.partial(judged, output="y")).name == "judged"


NEEDS = {
    "latency": {"target_seconds": 1, "limit_seconds": 2},
    "cost": {"target_usd": 1, "limit_usd": 2},
    "token_cost": {"target_tokens": 10, "limit_tokens": 20},
    "brevity": {"target_words": 1, "limit_words": 2},
}


@pytest.mark.parametrize("name", REWARDS.builtin)
def test_every_built_in_reward_loads_and_judges(name: str) -> None:
    async def complete(messages: Any) -> Reply:
        is_first = "<first>\n7" in messages[1]["content"]
        said = {"score": 1, "reason": "good", "better": "first" if is_first else "second"}
        return Reply({"role": "assistant", "content": json.dumps(said)})

    async def feedback(rollout_id: str) -> list[dict[str, Any]]:
        return [{"kind": "rating", "rollout": rollout_id, "value": 1.0, "comment": "good"}]

    async def opinions() -> Opinions:
        return Opinions()

    engine: Any = LinearEngine()
    steps = [Step(id="s", rollout_id="r-1", index=0, kind="tool", agent="a", started_at=0.0, name="look")]
    output = {"sql_execution": "SELECT 7", "code_execution": "print(7)"}.get(name, "7")
    expected = [[7]] if name == "sql_execution" else 7
    metadata: dict[str, Any] = {
        "json_schema": {"type": "integer"},
        "schema": "CREATE TABLE t (a)",
        "tool_calls": ["look"],
        "reference": "8",
    }
    task, trajectory = rollout(expected, output, steps=steps, seconds=0.5, usd=0.5, usage=Usage(5, 1))
    task.metadata.update(metadata)
    made = bound(
        with_params(REWARDS.load(name), name, NEEDS.get(name, {}), Path()),
        Services(complete, "m", feedback, engine, opinions),
    )
    given = asyncio.run(evaluate_reward(made, task, trajectory))
    assert given is not None and (given.value, given.name) == (1.0, name)
    assert given.reason
