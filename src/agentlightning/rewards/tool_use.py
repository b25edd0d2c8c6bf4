"""Did the agent use its tools as the task wanted? The calls it made against those the task expects.

Made means: the tool steps of the trajectory, or where none were seen, the calls its models asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from agentlightning.data.error_tags import tool_calls
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import DataError
from agentlightning.rewards.base import reward
from agentlightning.rewards.compare import difference


class ToolUse(NamedTuple):
    """One call of a tool. `arguments` is None where they are not known or do not matter."""

    name: str
    arguments: dict[str, Any] | None = None

    def __str__(self) -> str:
        given = "…" if self.arguments is None else ", ".join(f"{k}={v!r}" for k, v in self.arguments.items())
        return f"{self.name}({given})"[:120]


@reward
def tool_use(
    task: Task,
    trajectory: Trajectory,
    *,
    is_ordered: bool = False,
    exact_arguments: bool = False,
    allow_extra: bool = False,
) -> Reward | None:
    """The share of tool calls that are right: of the expected calls that were made, and none beyond them.

    The task's metadata holds `tool_calls`: names, or {name, arguments}. An expected call is made when a call of that
    name has every argument it lists (`exact_arguments`: and no other). Each call counts for one expected call;
    `is_ordered` asks for the order, too. Calls nobody expected count against, unless `allow_extra`. The value is
    right / (expected + unexpected); a task that expects no call gets 1 for none. None without `tool_calls`.
    """
    if "tool_calls" not in task.metadata or trajectory.status == "stopped":
        return None
    expected, made = _expected(task), calls_made(trajectory)
    fits = [[_fits(wanted, call, exact_arguments) for call in made] for wanted in expected]
    pairs = _in_order(fits, len(made)) if is_ordered else _any_order(fits, len(made))
    extra = [] if allow_extra else [call for index, call in enumerate(made) if index not in pairs.values()]
    total = len(expected) + len(extra)
    if not total:
        return Reward(1.0, "no tool was expected, and none was called", source="expected")
    missing = [wanted for index, wanted in enumerate(expected) if index not in pairs]
    return Reward(len(pairs) / total, _reason(expected, made, missing, extra, is_ordered), source="expected")


@reward
def no_duplicate_calls(_task: Task, trajectory: Trajectory) -> Reward | None:
    """The share of tool calls that nobody had made before in the rollout: same tool, same arguments, whichever agent.

    For teams in which one agent repeats what another has done. None where no tool was called.
    """
    made = calls_made(trajectory)
    if not made or trajectory.status == "stopped":
        return None
    keys = [json.dumps([call.name, call.arguments], sort_keys=True, default=str) for call in made]
    repeated = [str(call) for index, call in enumerate(made) if keys[index] in keys[:index]]
    said = f"{len(repeated)} of {len(made)} tool calls repeat an earlier one"
    return Reward(1 - len(repeated) / len(made), f"{said}: {repeated[0]}" if repeated else "no tool call is repeated")


def calls_made(trajectory: Trajectory) -> list[ToolUse]:
    """The tool calls of a rollout, in order."""
    steps = [step for step in trajectory.steps if step.kind == "tool"]
    if steps:
        return [ToolUse(step.name or "", _arguments(step.arguments)) for step in steps]
    asked = [call for step in trajectory.model_steps for call in tool_calls(step)]
    return [ToolUse(call.name, _arguments(call.arguments)) for call in asked]


def _arguments(given: Any) -> dict[str, Any] | None:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            return None
    return cast(dict[str, Any], given) if isinstance(given, dict) else None


def _expected(task: Task) -> list[ToolUse]:
    given = task.metadata["tool_calls"]
    if not isinstance(given, list):
        raise DataError(f"task {task.id}: tool_calls is a list of names or {{name, arguments}}; this is {given!r:.80}")
    found: list[ToolUse] = []
    for entry in cast(list[Any], given):
        if isinstance(entry, str):
            found.append(ToolUse(entry))
        elif isinstance(entry, dict) and isinstance(cast(Any, entry).get("name"), str):
            named = cast(dict[str, Any], entry)
            found.append(ToolUse(named["name"], _arguments(named.get("arguments"))))
        else:
            raise DataError(f"task {task.id}: a tool call is a name or {{name, arguments}}; this is {entry!r:.80}")
    return found


def _fits(wanted: ToolUse, call: ToolUse, exact: bool) -> bool:
    if wanted.name != call.name:
        return False
    if wanted.arguments is None:
        return True
    given = call.arguments or {}
    seen = given if exact else {key: value for key, value in given.items() if key in wanted.arguments}
    return difference(wanted.arguments, seen) is None


def _any_order(fits: Sequence[Sequence[bool]], num_calls: int) -> dict[int, int]:
    """Expected → call, as many pairs as there can be (augmenting paths)."""
    holder: dict[int, int] = {}

    def place(wanted: int, tried: set[int]) -> bool:
        for call in range(num_calls):
            if fits[wanted][call] and call not in tried:
                tried.add(call)
                if call not in holder or place(holder[call], tried):
                    holder[call] = wanted
                    return True
        return False

    for wanted in range(len(fits)):
        place(wanted, set())
    return {wanted: call for call, wanted in holder.items()}


def _in_order(fits: Sequence[Sequence[bool]], num_calls: int) -> dict[int, int]:
    """Expected → call, the longest run of pairs in which neither side goes back (longest common subsequence)."""
    best = [[0] * (num_calls + 1) for _ in range(len(fits) + 1)]
    for i in reversed(range(len(fits))):
        for j in reversed(range(num_calls)):
            best[i][j] = 1 + best[i + 1][j + 1] if fits[i][j] else max(best[i + 1][j], best[i][j + 1])
    pairs, i, j = dict[int, int](), 0, 0
    while i < len(fits) and j < num_calls:
        if fits[i][j] and best[i][j] == 1 + best[i + 1][j + 1]:
            pairs[i] = j
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _reason(
    expected: Sequence[ToolUse],
    made: Sequence[ToolUse],
    missing: Sequence[ToolUse],
    extra: Sequence[ToolUse],
    ordered: bool,
) -> str:
    if not missing and not extra:
        return f"all {len(expected)} expected tool calls were made"
    parts: list[str] = []
    if missing:
        same_name = [str(call) for call in made if call.name == missing[0].name]
        instead = f" (called as {same_name[0]})" if same_name else ""
        parts.append(f"{'out of order or missing' if ordered else 'missing'}: {missing[0]}{instead}")
    if extra:
        parts.append(f"not expected: {extra[0]}")
    return f"{len(expected) - len(missing)} of {len(expected)} expected tool calls were made; " + "; ".join(parts)
