"""Rewards that need no model: the output against the task's expected answer. Their reasons say what went wrong.

`expected` may be text, a number, true or false, JSON (a mapping or list), or `{"any_of": [...]}`. Without it they
cannot judge and return None. A rollout that failed or timed out without an output gets 0 with its error as the reason;
one that was stopped from outside is not judged.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.rewards.base import reward
from agentlightning.rewards.compare import as_json, as_number, difference, normalised, numbers_in, same, stands_in

_WORDWISE_FROM = 2000


@reward(quick=True)
def expected_match(task: Task, trajectory: Trajectory) -> Reward | None:
    """1 when the output is the expected answer as `rewards/compare.py` defines it, else 0; the default."""
    return _judge(task, trajectory, _expected)


@reward(quick=True)
def exact_match(task: Task, trajectory: Trajectory) -> Reward | None:
    """1 when the output equals the expected answer in every character (or every part), else 0."""
    return _judge(task, trajectory, _exact)


@reward(quick=True)
def contains(task: Task, trajectory: Trajectory) -> Reward | None:
    """1 when the expected text stands in the output as whole words, else 0."""
    return _judge(task, trajectory, _contains)


@reward
def fuzzy_match(task: Task, trajectory: Trajectory) -> Reward | None:
    """How much of the two texts is the same, 0 to 1 (difflib's ratio; of words above 2,000 characters)."""
    return _judge(task, trajectory, _fuzzy)


@reward
def numeric_match(task: Task, trajectory: Trajectory, relative_tolerance: float = 0.01) -> Reward | None:
    """1 when the output's number is within 1 % of the expected one: the output itself, or the last number in it."""
    return _judge(task, trajectory, lambda expected, output: _numeric(expected, output, relative_tolerance))


@reward
def json_valid(_task: Task, trajectory: Trajectory) -> Reward | None:
    """1 when the output is JSON (a code fence around it is allowed), else 0. Needs no expected answer."""
    if trajectory.status == "stopped":
        return None
    try:
        as_json(_spoken(trajectory.output))
    except ValueError as error:
        return Reward(0.0, f"the output is not JSON ({error}): {_shown(trajectory.output)}")
    return Reward(1.0, "the output is JSON")


@reward
def task_success_rate(task: Task, trajectory: Trajectory) -> Reward | None:
    """The reward the agent emitted last, if it did; else `expected_match`."""
    emitted = [r for r in trajectory.rewards if r.source == "emitted" and not r.is_metric and r.step is None]
    if trajectory.status == "succeeded" and trajectory.error:
        return None  # it emitted what is no number, and no other judge steps in for it
    return emitted[-1] if emitted else expected_match(task, trajectory)


Verdict = tuple[float, str]


def _judge(task: Task, trajectory: Trajectory, compare: Callable[[Any, Any], Verdict]) -> Reward | None:
    """The best verdict over the alternatives; on a tie the first, so the reason names the preferred answer."""
    if task.expected is None or trajectory.status == "stopped":
        return None
    if failed := no_answer(trajectory):
        return failed
    verdicts = [compare(expected, trajectory.output) for expected in _alternatives(task.expected)]
    value, reason = max(verdicts, key=lambda verdict: verdict[0])
    if value == 0 and len(verdicts) > 1:
        reason += f" (nor is it any of the {len(verdicts) - 1} alternatives)"
    return Reward(value, reason, source="expected")


def no_answer(trajectory: Trajectory) -> Reward | None:
    """The reward of a rollout that failed or timed out without an output: 0, with its error."""
    if trajectory.output is not None or trajectory.status == "succeeded":
        return None
    reason = f"the agent gave no answer ({trajectory.status}): {trajectory.error or 'no error was given'}"
    return Reward(0.0, reason, source="expected")


def _alternatives(expected: Any) -> list[Any]:
    if isinstance(expected, dict):
        given = cast(dict[str, Any], expected)
        if list(given) == ["any_of"] and isinstance(given["any_of"], list) and given["any_of"]:
            return cast(list[Any], given["any_of"])
    return [expected]


def _expected(expected: Any, output: Any) -> Verdict:
    if isinstance(expected, dict | list):
        try:
            found = difference(expected, as_json(output))
        except ValueError:
            return 0.0, f"expected JSON, got text that is not JSON: {_shown(output)}"
        return (0.0, found) if found else (1.0, "the output is the expected JSON")
    if same(expected, output):
        return 1.0, f"the output is the expected {_shown(expected)}"
    return 0.0, f"expected {_shown(expected)}, got {_shown(output)}{_hint(expected, output)}"


def _exact(expected: Any, output: Any) -> Verdict:
    are_parts = isinstance(expected, dict | list) and isinstance(output, dict | list)
    if expected == output if are_parts else _text(expected) == _text(output):
        return 1.0, f"the output is exactly {_shown(expected)}"
    is_close = not isinstance(expected, dict | list) and same(expected, output)
    hint = " (only case, white space, punctuation or notation differ)" if is_close else _hint(expected, output)
    return 0.0, f"expected exactly {_shown(expected)}, got {_shown(output)}{hint}"


def _contains(expected: Any, output: Any) -> Verdict:
    if stands_in(_text(expected), _text(output)):
        return 1.0, f"the output contains {_shown(expected)}"
    return 0.0, f"expected {_shown(expected)} somewhere in the output, got {_shown(output)}"


def _fuzzy(expected: Any, output: Any) -> Verdict:
    left, right = normalised(_text(expected)), normalised(_text(output))
    is_long = max(len(left), len(right)) > _WORDWISE_FROM
    pieces = (left.split(), right.split()) if is_long else (left, right)
    ratio = difflib.SequenceMatcher(None, *pieces, autojunk=False).ratio()
    return ratio, f"{ratio:.0%} the same as {_shown(expected)}: {_shown(output)}"


def _numeric(expected: Any, output: Any, tolerance: float) -> Verdict:
    wanted = as_number(expected)
    if wanted is None:
        raise ValueError(f"numeric_match needs a number as the expected answer; the task has {_shown(expected)}")
    whole = as_number(output)
    found = [whole] if whole else numbers_in(_text(output))
    if not found:
        return 0.0, f"expected the number {wanted.value}, got no number: {_shown(output)}"
    got = found[-1].value
    is_near = abs(got - wanted.value) <= Decimal(str(tolerance)) * abs(wanted.value)
    verb = "is within" if is_near else "is not within"
    return float(is_near), f"{got} (read from {_shown(output)}) {verb} {tolerance:.3g} of {wanted.value}, relatively"


def _hint(expected: Any, output: Any) -> str:
    """What kind of wrong this is, for whoever must learn from it."""
    if output is None or (isinstance(output, str) and not output.strip()):
        return " (there is no answer)"
    if isinstance(output, dict | list):
        return " (the output is structured; the expected answer is a plain value)"
    left, right = as_number(expected), as_number(output)
    if left and right:
        return " (another currency)" if left.value == right.value else f" (off by {right.value - left.value})"
    if stands_in(_text(expected), _text(output)):
        return " (the answer stands inside a longer text)"
    if left and not numbers_in(_text(output)):
        return " (there is no number in it)"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value if isinstance(value, str) else str(value)


def _spoken(output: Any) -> Any:
    """An agent that returned nothing has said nothing, which is not the JSON null."""
    return "" if output is None else output


def _shown(value: Any, limit: int = 200) -> str:
    shown = repr(value)
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown)} characters)"
