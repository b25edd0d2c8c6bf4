"""Which runs an optimiser should look at: the failed ones, each with a passed one that resembles it.

Failure is relative where rewards are graded. A run without a reward counts only when it ended in an error, and a run
we stopped ourselves says nothing.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from agentlightning.data.call import Message
from agentlightning.data.resource import PromptSite
from agentlightning.data.trajectory import Group, Trajectory

_WORD = re.compile(r"[A-Za-z0-9_]+|[^\W\x00-\x7f]")
_BEST_REWARD = 1.0


class Run(msgspec.Struct, frozen=True):
    """A trajectory and how it is presented."""

    trajectory: Trajectory
    outcome: Literal["failed", "passed"]

    @property
    def is_failed(self) -> bool:
        return self.outcome == "failed"


def classify(groups: Iterable[Group]) -> list[Run]:
    """The runs that are evidence, in order, each failed or passed.

    Failed: an error without a reward, or a reward in the lower half of the range these runs span. When all rewards are
    equal, all passed if that reward is 1.0, else all failed: on an unknown scale there may always be more to gain.
    """
    known = [t for group in groups for t in group.trajectories if _is_evidence(t)]
    bar = _passing_bar([t.reward for t in known if t.reward is not None])
    return [Run(t, "passed" if t.reward is not None and t.reward > bar else "failed") for t in known]


def select(runs: Sequence[Run], limit: int, rng: random.Random) -> list[Run]:
    """At most `limit` runs: failed ones first, worst first, then for each its nearest passed run.

    A quarter of the places is kept for passed runs where there are any, so that the two can be contrasted.
    """
    shuffled = rng.sample(runs, len(runs))
    failed = sorted((run for run in shuffled if run.is_failed), key=_badness)
    passed = [run for run in shuffled if not run.is_failed]
    failed = failed[: limit - min(len(passed), limit // 4)]
    contrast: list[Run] = []
    for number in range(min(limit - len(failed), len(passed))):
        anchor = failed[number % len(failed)] if failed else passed[number]
        nearest = max(
            (run for run in passed if run not in contrast), key=lambda run: likeness(run.trajectory, anchor.trajectory)
        )
        contrast.append(nearest)
    return failed + contrast


def tools_of(runs: Iterable[Run], agent: str) -> dict[str, dict[str, Any]]:
    """Tool name → its function schema, as the agent's own calls offered them."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        for step in run.trajectory.model_steps:
            if step.agent == agent and step.call is not None:
                for tool in step.call.tools:
                    schema = tool.get("function", tool)
                    found.setdefault(str(schema.get("name", "?")), schema)
    return found


def tool_calls(message: Message) -> list[tuple[str, str, str]]:
    """(id, tool name, arguments as text) of each tool call in a model's message."""
    return [
        (str(call.get("id", "")), str(call["function"].get("name", "?")), str(call["function"].get("arguments", "")))
        for call in message.get("tool_calls") or []
        if "function" in call
    ]


def blame(runs: Iterable[Run], sites: Sequence[PromptSite]) -> dict[str, float]:
    """Site id → in how many failed runs its agent took part; a run without recorded steps blames every site.

    The descriptions of an agent's tools, together, count half of what its instructions do.
    """
    counts = {site.id: 0.0 for site in sites}
    for run in runs:
        if run.is_failed:
            involved = {step.agent for step in run.trajectory.model_steps}
            for site in sites:
                counts[site.id] += not involved or site.agent in involved
    described = Counter(site.agent for site in sites if site.tool)
    return counts | {site.id: counts[site.id] / (2 * described[site.agent]) for site in sites if site.tool}


def _is_evidence(t: Trajectory) -> bool:
    if t.status == "stopped":
        return False
    return t.reward is not None or t.error is not None or t.status in ("failed", "timeout")


def _passing_bar(rewards: list[float]) -> float:
    if not rewards:
        return math.inf
    low, high = min(rewards), max(rewards)
    if low < high:
        return (low + high) / 2
    return -math.inf if low == _BEST_REWARD else math.inf


def _badness(run: Run) -> float:
    reward = run.trajectory.reward
    return -math.inf if reward is None else reward


def likeness(t: Trajectory, other: Trajectory) -> float:
    """Overlap (Jaccard) of tools used plus overlap of input words, 0 to 2."""
    return _overlap(_tools_used(t), _tools_used(other)) + _overlap(_words(t), _words(other))


def _overlap(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def _words(t: Trajectory) -> set[str]:
    return set(_WORD.findall(str(t.input).lower()))


def _tools_used(t: Trajectory) -> set[str]:
    names = {str(step.name) for step in t.steps if step.kind == "tool"}
    for step in t.model_steps:
        if step.reply is not None:
            names |= {name for _, name, _ in tool_calls(step.reply.message)}
    return names
