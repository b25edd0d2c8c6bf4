"""A result as tables and as a picture, for notebooks. pandas and matplotlib are imported when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Literal

from agentlightning.errors import ConfigError, MissingExtra, near_miss
from agentlightning.trainer import wording
from agentlightning.trainer.evaluation import MIN_TEST_TASKS, paired_interval

Table = Literal["tasks", "history"]

_TASKS = ("task_id", "split", "outcome", "baseline_reward", "final_reward", "difference", "input", "expected",
          "baseline_output", "final_output", "baseline_reason", "final_reason")  # fmt: skip
_HISTORY = ("policy_id", "parent_id", "decision", "reason", "stage", "iteration", "validation_mean", "site", "idea")
_WEIGHT = {"refused": 0, "rejected": 1, "accepted": 2}
_COLOURS = {"accepted": "tab:green", "rejected": "tab:gray"}


def to_pandas(result: Any, table: Table) -> Any:
    """A DataFrame of the tasks that were measured, or of the decisions. ConfigError for another word."""
    if table not in ("tasks", "history"):
        raise ConfigError(
            f"there is no table {table!r}.{near_miss(table, ('tasks', 'history'))} Known: tasks, history."
        )
    pandas = _needed("pandas", "result.to_pandas()", "pandas")
    if table == "history":
        rows = [{name: getattr(entry, name) for name in _HISTORY} for entry in result.history]
        return pandas.DataFrame(rows, columns=list(_HISTORY))
    rows = [{name: getattr(task, name, None) for name in _TASKS} for task in result.tasks]
    for row in rows:
        before, after = row["baseline_reward"], row["final_reward"]
        row["difference"] = None if before is None or after is None else after - before
    frame = pandas.DataFrame(rows, columns=list(_TASKS))
    for name in ("baseline_reward", "final_reward", "difference"):
        frame[name] = pandas.to_numeric(frame[name])
    return frame


def plot(result: Any, axes: Any = None) -> Any:
    """The search on validation tasks, and beside it what was measured at the end; gives back matplotlib's axes.

    The band is the original's mean with its 95 % interval, on the tasks of the last measurement; the search's points
    are means on validation tasks. The two are other tasks, and the labels say which.
    """
    pyplot = _needed("matplotlib.pyplot", "result.plot()", "plot")
    if axes is None:
        axes = pyplot.subplots(figsize=(8, 4), layout="constrained")[1]
    tested = wording.counted(result.num_test_tasks, "held-out task")
    where = tested if result.num_test_tasks else "tasks of the search"
    _search(result, axes)
    end = max(1, len(_measured(result)))
    _ends(result, axes, end, where)
    axes.set(xlabel="candidates, in order", ylabel="mean reward", title=result.headline, xlim=(0.4, end + 1.8))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize="small")
    return axes


def _measured(result: Any) -> list[tuple[str, float]]:
    return [(e.decision, e.validation_mean) for e in result.history if e.validation_mean is not None]


def _search(result: Any, axes: Any) -> None:
    points = list(enumerate(_measured(result), start=1))
    for decision, colour in _COLOURS.items():
        chosen = [(x, mean) for x, (how, mean) in points if how == decision]
        if chosen:
            xs, ys = zip(*chosen, strict=True)
            axes.plot(xs, ys, "o", color=colour, label=f"{decision}, on validation tasks")
    steps = [(x, mean) for x, (how, mean) in points if how == "accepted"]
    if steps:
        xs, ys = zip(*[*steps, (len(points) + 0.5, steps[-1][1])], strict=True)
        axes.step(xs, ys, where="post", color=_COLOURS["accepted"], alpha=0.6, label="best so far, on validation tasks")


def _ends(result: Any, axes: Any, end: int, where: str) -> None:
    before = [task.baseline_reward for task in result.tasks if task.baseline_reward is not None]
    after = [task.final_reward for task in result.tasks if task.final_reward is not None]
    if result.baseline is not None:
        axes.axhline(result.baseline, color="tab:blue", linewidth=1, label=f"original, {where}")
        if (span := _interval(before)) is not None:
            axes.axhspan(*span, color="tab:blue", alpha=0.12, label="its 95 % interval")
    if result.final is not None and result.verdict != "kept original":
        span = _interval(after)
        low, high = (result.final - span[0], span[1] - result.final) if span else (0.0, 0.0)
        spread = [[max(0.0, low)], [max(0.0, high)]]
        axes.errorbar([end + 1], [result.final], yerr=spread, fmt="D", capsize=4, color="black", label=f"new, {where}")


def _interval(rewards: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of one mean, by the bounds the verdict uses; None for too few."""
    if len(rewards) < MIN_TEST_TASKS:
        return None
    low, high = min(0.0, *rewards), max(1.0, *rewards)
    middle, half = (low + high) / 2, (high - low) / 2
    found = paired_interval([reward - middle for reward in rewards], reward_range=half)
    return found.low + middle, found.high + middle


def _needed(module: str, what: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise MissingExtra(f"{what} needs the {name} package:  pip install 'agentlightning[{extra}]'") from error


def tree(result: Any) -> str:
    """The history as a tree: each version under its parent, in the order in which they were decided.

    A version proposed several times from one parent stands there once, with what was decided in the end.
    """
    children: dict[str, dict[str, list[Any]]] = {}
    for entry in result.history:
        children.setdefault(entry.parent_id, {}).setdefault(entry.policy_id, []).append(entry)
    known = {entry.policy_id for entry in result.history}
    first = [entry.parent_id for entry in result.history[:1]]  # which may be come back to, and so be known itself
    lines: list[str] = []
    for root in dict.fromkeys([*first, *(parent for parent in children if parent not in known)]):
        lines.append(root)
        lines += _branches(root, children, "", {root})
    return "\n".join(lines)


def _branches(parent: str, children: dict[str, dict[str, list[Any]]], indent: str, shown: set[str]) -> list[str]:
    """A version come back to from another one has its branches where it stands first."""
    lines: list[str] = []
    versions = list(children.get(parent, {}).values())
    for entries in versions:
        is_last = entries is versions[-1]
        entry = max(entries, key=lambda entry: _WEIGHT[entry.decision])
        score = "" if entry.validation_mean is None else f" {wording.number(entry.validation_mean)}"
        idea = f": {' '.join(entry.idea.split())[:100]}" if entry.idea else ""
        often = f" (proposed {len(entries)} times)" if len(entries) > 1 else ""
        lines.append(f"{indent}{'└─' if is_last else '├─'} {entry.policy_id} {entry.decision}{score}{idea}{often}")
        if entry.policy_id not in shown:
            shown.add(entry.policy_id)
            lines += _branches(entry.policy_id, children, indent + ("   " if is_last else "│  "), shown)
    return lines


def verdict_colour(result: Any) -> str:
    """Of the bar beside a result in a notebook; the words say the same."""
    return {"improved": "#2e7d32", "not shown": "#b26a00"}.get(result.verdict, "#607d8b")


def outcomes(result: Any) -> str:
    """How many tasks were won, lost and unchanged, in words."""
    counted: list[str] = [task.outcome for task in result.tasks]
    return ", ".join(f"{counted.count(kind)} {kind}" for kind in ("won", "same", "lost", "unjudged") if kind in counted)
