"""The best rollouts as rows that DSPy takes for demonstrations."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.store.exports.test_sft import reasons, written
from tests.store.rollouts import add, rollout, weather

from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport
from agentlightning.store.exports.dspy import example, export_dspy


def test_the_best_rollout_of_each_task_becomes_an_example(tmp_path: Path, store: Store) -> None:
    async def scenario() -> ExportReport:
        await add(store, weather("worse", "Blue.", 0.6), weather("better", "Grey.", 1.0), weather("bad", "No.", 0.0))
        return await export_dspy(store, tmp_path / "demos.jsonl", Choice())

    report = asyncio.run(scenario())
    [row] = written(tmp_path / "demos.jsonl")
    assert row == {"input": weather("better").input, "output": "Grey.", "augmented": True}
    assert reasons(report) == {"worse": "not among the 1 best of its task", "bad": "reward under 0.5"}


def test_a_tasks_fields_keep_their_names() -> None:
    asked = rollout("r", input={"question": "Which?", "output": "csv"}, output="This.")
    assert example(asked) == {"question": "Which?", "output": "csv", "answer": "This.", "augmented": True}
