"""How much of an answer is said for the first time? Signals against padding and repetition, by counting alone.

They know nothing of truth: gibberish is dense. Use them beside a reward for being right, with a smaller weight.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.rewards.base import reward

_UNIT = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+(?:['’-]\w+)*"
)
_WORDS_IN_A_RUN = 4
_CHARACTERS_IN_A_RUN = 8
"""A run this long is no term any more ("large language model", 自然语言处理), but a phrase."""


@reward
def information_density(_task: Task, trajectory: Trajectory) -> Reward | None:
    """The share of the output's words that are new: not part of a run of four that the output said before, or that
    stands in the task's input. 0 to 1; no answer is 0.

    Chinese, Japanese and Korean are read by characters, in runs of eight. Inputs are compared because answers that
    say the question again carry nothing.
    """
    return _new_share(trajectory, said_before=_units(_text(trajectory.input)))


@reward
def no_repetition(_task: Task, trajectory: Trajectory) -> Reward | None:
    """As information_density, without regard to the input: 1 when the output never says a run of four words twice."""
    return _new_share(trajectory, said_before=[])


def num_units(text: str) -> int:
    """Words, and characters of scripts that write without spaces."""
    return len(_units(text))


def _new_share(trajectory: Trajectory, said_before: list[str]) -> Reward | None:
    if trajectory.status == "stopped":
        return None
    units = _units(_text(trajectory.output))
    if not units:
        return Reward(0.0, "there is no answer")
    length = (
        _CHARACTERS_IN_A_RUN
        if sum(len(unit) == 1 and ord(unit) > 0x3000 for unit in units) * 2 > len(units)
        else _WORDS_IN_A_RUN
    )
    seen = set(_runs(said_before, length))
    old: set[int] = set()
    phrase = ""
    for start, run in enumerate(_runs(units, length)):
        if run in seen:
            old.update(range(start, start + length))
            phrase = phrase or ("" if length == _CHARACTERS_IN_A_RUN else " ").join(run)
        seen.add(run)
    share = 1 - len(old) / len(units)
    said = f"{share:.0%} of {len(units)} words are said for the first time"
    return Reward(share, f"{said}; said again: {phrase!r}" if phrase else said)


def _runs(units: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(units[start : start + length]) for start in range(len(units) - length + 1)]


def _units(text: str) -> list[str]:
    return _UNIT.findall(unicodedata.normalize("NFKC", text).casefold())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
