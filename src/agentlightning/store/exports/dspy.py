"""The best rollouts as demonstrations for DSPy: one flat JSON object each, as `dspy.Example(**row)` takes it.

A row has the task's fields (a text task: `input`), the agent's `output`, and `augmented: true`, DSPy's mark for an
example that a program produced. Load them with `dspy.Example(**row).with_inputs(*task_fields)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentlightning.data.features import SUCCESS_REWARD
from agentlightning.data.selection import best, judged
from agentlightning.data.trajectory import Trajectory
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport, chosen, distinct, write_rows


async def export_dspy(store: Store, path: str | Path, choice: Choice, *, best_of: int = 1) -> ExportReport:
    """One line per rollout: the `best_of` best of each task with a reward of at least `choice.min_reward`.

    Splits train and live only; all other rollouts are in the report, and in `<path>.left_out.jsonl`, with the reason.
    """
    min_reward = SUCCESS_REWARD if choice.min_reward is None else choice.min_reward
    everything = [t async for t in chosen(store, Choice(where=choice.where, is_masked=choice.is_masked))]
    selection = best(judged(everything), min_reward=min_reward, best_of=best_of)
    rows = distinct(example(trajectory) for trajectory in selection.kept)
    await write_rows(Path(path), rows, selection.left_out)
    return ExportReport(len(rows), len(everything), selection.left_out)


def example(trajectory: Trajectory) -> dict[str, Any]:
    """The rollout as a demonstration; the answer is called `answer` where the task has a field `output`."""
    given = trajectory.input if isinstance(trajectory.input, dict) else {"input": trajectory.input}
    return {**given, ("answer" if "output" in given else "output"): trajectory.output, "augmented": True}
