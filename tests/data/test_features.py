"""What the rules read out of a trajectory: kind of task, success, counts."""

from __future__ import annotations

from typing import Any

import pytest

from agentlightning.data.call import Call, Reply
from agentlightning.data.features import SUCCESS_REWARD, features
from agentlightning.data.trajectory import Step, Trajectory

TOOL = {"type": "function", "function": {"name": "search"}}


def rollout(given: str | dict[str, Any] = "hello", **fields: Any) -> Trajectory:
    return Trajectory(id="r", agent_id="a", task="t", input=given, timestamp=1.0, **fields)


def step(index: int, kind: Any = "model", tools: list[Any] | None = None, calls: int = 0, **fields: Any) -> Step:
    asked = [{"function": {"name": "search", "arguments": str(n)}} for n in range(calls)]
    call, reply = Call("a", "m", [], tools or []), Reply({"role": "assistant", "content": "", "tool_calls": asked})
    common: dict[str, Any] = {"id": f"s{index}", "rollout_id": "r", "index": index, "agent": "a", "started_at": 0.0}
    if kind == "model":
        common |= {"call": call, "reply": reply}
    return Step(kind=kind, **common, **fields)


@pytest.mark.parametrize(
    ("given", "expected", "task_type"),
    [
        ("Write a Python function that reverses a list.", None, "code"),
        ("What does this do?\n```\nx = 1\n```", None, "code"),
        ("Extract all names from: Ada met Alan.", None, "extraction"),
        ("Ada, 36, London", {"name": "Ada"}, "extraction"),
        ("How many apples are left if 3 of 10 are eaten?", "7", "math"),
        ("12 * (3 + 4)", 84, "math"),
        ("Solve for x: 2x = 8", None, "math"),
        ("Is the sentiment positive or negative? 'Great!'", "positive", "classification"),
        ("Classify this ticket: the printer burns", None, "classification"),
        ("The earth is flat.", False, "classification"),
        ("What is the capital of France?", "Paris", "question_answering"),
        ({"question": "Who wrote Faust?", "context": "…"}, "Goethe", "question_answering"),
        ("Tell me a story about a fox.", None, "generation"),
        ({}, None, "generation"),
    ],
)
def test_the_task_type_follows_from_input_and_expected(
    given: str | dict[str, Any], expected: Any, task_type: str
) -> None:
    assert features(rollout(given, expected=expected)).task_type == task_type


def test_tools_make_it_tool_use_whether_offered_or_run() -> None:
    assert features(rollout("Solve 1 + 1", steps=[step(0, tools=[TOOL])])).task_type == "tool_use"
    assert features(rollout("Solve 1 + 1", steps=[step(0, kind="tool")])).task_type == "tool_use"


@pytest.mark.parametrize(
    ("status", "reward", "success"),
    [
        ("succeeded", None, None),
        ("succeeded", SUCCESS_REWARD, True),
        ("succeeded", SUCCESS_REWARD - 0.01, False),
        ("failed", None, False),
        ("failed", 1.0, False),
        ("timeout", None, False),
        ("stopped", 0.0, None),
    ],
)
def test_success_needs_a_judgement_and_a_rollout_that_ended_by_itself(
    status: Any, reward: float | None, success: bool | None
) -> None:
    assert features(rollout(status=status, reward=reward)).success is success


def test_a_call_and_its_retries_count_once_and_tools_count_by_what_ran() -> None:
    asked = [step(0, retry=0), step(1, retry=1, calls=2), step(2)]
    assert features(rollout(steps=asked)).num_model_calls == 2
    assert features(rollout(steps=asked)).num_tool_calls == 2
    assert features(rollout(steps=[*asked, step(3, kind="tool")])).num_tool_calls == 1
