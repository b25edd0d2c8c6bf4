"""The reward of the text-to-SQL agent: right and read from the database, or a reason that helps."""

from __future__ import annotations

import pytest

from agentlightning.data.call import Call
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.demo.sql.reward import answered_from_data

TASK = Task(id="t", input={"question": "How many?", "database": ""}, expected="7")


def trajectory(output: str | None, *results: str) -> Trajectory:
    messages = [{"role": "user", "content": "How many?"}]
    steps = [_step(0, messages)]
    for number, result in enumerate(results, start=1):
        messages = [*messages, {"role": "assistant", "content": None}, {"role": "tool", "content": result}]
        steps.append(_step(number, messages))
    return Trajectory(id="r", agent_id="a", task="t", input=TASK.input, output=output, timestamp=0.0, steps=steps)


def _step(index: int, messages: list[dict[str, object]]) -> Step:
    call = Call(agent="a", model="m", messages=messages)
    return Step(id=str(index), rollout_id="r", index=index, kind="model", agent="a", started_at=0.0, call=call)


def test_a_right_answer_that_a_query_returned_is_rewarded():
    assert answered_from_data(TASK, trajectory("7", '{"age": "c3"}', "7"))[0] == 1.0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (trajectory("7"), "without asking the database"),
        (trajectory("7", '{"age": "c3"}'), "which no query returned"),
        (trajectory("9", "9"), "the wrong query: 7 was right"),
        (trajectory("unknown", "error: no such column: age"), "gave up after an error (no such column: age)"),
        (trajectory("8", "7"), "which no query returned"),
        (trajectory(None, "9"), "which no query returned"),
    ],
)
def test_anything_else_is_not_and_the_reason_says_why(given: Trajectory, reason: str):
    value, why = answered_from_data(TASK, given)
    assert value == 0.0
    assert reason in why
