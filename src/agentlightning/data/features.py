"""What a trajectory shows at a glance: what kind of task it was, whether it went well, and what went wrong where.

Rules, not models: the same trajectory always gives the same features.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentlightning.data.error_tags import error_tags, tool_calls
from agentlightning.data.trajectory import Features, Trajectory

SUCCESS_REWARD = 0.5
"""A judged rollout with at least this reward counts as a success."""

_CODE = re.compile(
    r"```|\b(?:write|implement|fix|debug|refactor|complete)\b[^.\n]{0,60}\b(?:code|function|class|method|script|program|"
    r"query|regex|unit tests?)\b|\b(?:python|javascript|typescript|sql|bash|rust|golang)\b|^\s*(?:def|class|import) \w",
    re.IGNORECASE | re.MULTILINE,
)
_MATH = re.compile(
    r"\b(?:calculate|compute|solve|evaluate|how many|how much|sum of|product of|percent(?:age)? of|equation|integral|"
    r"derivative|average of)\b|\d\s*[-+*/^×÷=]\s*\(?\d",
    re.IGNORECASE,
)
_CLASSIFY = re.compile(
    r"\b(?:classify|classification|categori[sz]e|label|sentiment|categor(?:y|ies)|which of (?:the|these)|one of|"
    r"true or false|yes or no|spam)\b",
    re.IGNORECASE,
)
_EXTRACT = re.compile(r"\b(?:extract|list (?:all|every|the)|find (?:all|every)|pull out|parse)\b", re.IGNORECASE)
_QUESTION = re.compile(
    r"\?\s*$|^\s*(?:who|what|when|where|which|why|how|is|are|was|were|do|does|did|can)\b", re.IGNORECASE
)
_NUMBER = re.compile(r"\s*[-+$€£]?\d[\d,]*(?:\.\d+)?\s*%?\s*")


def features(trajectory: Trajectory) -> Features:
    """Task type, success, and error tags with their evidence. Expects the steps to be there, and cleaned text.

    `task_type`, by the first rule that fits:
    tool_use: a model was offered tools, or a tool ran · code: the input asks for code or holds some ·
    extraction: the input asks to extract or list, or a mapping or list is expected ·
    math: the input holds arithmetic or asks to calculate, and a number or nothing is expected ·
    classification: true/false or a label of one to three words is expected and the input asks to choose, or nothing
    is expected and it does · question_answering: the input is a question · generation: anything else.

    `success`: False for a failed or timed-out rollout, None for one that we stopped or nobody judged, else whether
    the reward is at least `SUCCESS_REWARD`.

    `num_model_calls` counts a call and its retries once; `num_tool_calls` counts tool steps, or where none were seen
    the calls that models asked for.
    """
    tool_steps = [step for step in trajectory.steps if step.kind == "tool"]
    requested = sum(len(tool_calls(step)) for step in trajectory.model_steps)
    return Features(
        task_type=_task_type(trajectory),
        success=_success(trajectory),
        error_tags=error_tags(trajectory),
        num_model_calls=sum(step.retry == 0 for step in trajectory.model_steps),
        num_tool_calls=len(tool_steps) or requested,
    )


def _success(trajectory: Trajectory) -> bool | None:
    if trajectory.status in ("failed", "timeout"):
        return False
    if trajectory.status == "stopped" or trajectory.reward is None:
        return None
    return trajectory.reward >= SUCCESS_REWARD


def _task_type(trajectory: Trajectory) -> str:
    text, expected = _as_text(trajectory.input), trajectory.expected
    if any(step.kind == "tool" or (step.call and step.call.tools) for step in trajectory.steps):
        return "tool_use"
    if _CODE.search(text):
        return "code"
    if _EXTRACT.search(text) or isinstance(expected, dict | list):
        return "extraction"
    if _MATH.search(text) and (expected is None or _is_number(expected)):
        return "math"
    if _CLASSIFY.search(text) and (expected is None or _is_label(expected)):
        return "classification"
    if _QUESTION.search(text):
        return "question_answering"
    return "classification" if isinstance(expected, bool) else "generation"


def _as_text(value: str | dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    return "\n".join(item if isinstance(item, str) else json.dumps(item, default=str) for item in value.values())


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_label(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and 1 <= len(value.split()) <= 3)
