"""Which tasks may a saved policy be measured on? Not those it was learned from or chosen by: they would flatter it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from agentlightning.data.task import Task
    from agentlightning.store.base import Store
    from agentlightning.trainer.trainer import Trainer


class Unseen(NamedTuple):
    """The tasks to measure on, and what must be said about them."""

    tasks: list[Task]
    note: str


def unseen_tasks(trainer: Trainer, tasks: Any, policy: str) -> Unseen:
    """The tasks without those the policy's run learned from; all of them, said plainly, where that is not known."""
    from agentlightning.cli.store_option import with_store
    from agentlightning.trainer.tasks import load_task_splits

    splits = load_task_splits(tasks if tasks is not None else trainer.config.task_sources())
    given = splits.train
    run_id, tested = _result_beside(Path(policy))
    if run_id is None:
        return Unseen(
            given, "which tasks the policy was learned from is not known, so some of these may be among them."
        )

    async def of_run(store: Store) -> set[str]:
        return {stored.record.id async for stored in store.read("task", {"run": run_id})}

    known = with_store(trainer.config.store_address(), of_run)
    learned = known - tested
    if not known:
        return Unseen(
            given, f"run {run_id} is not in this store, so some of these tasks may be among those it learned."
        )
    fresh = [task for task in given if task.id not in learned]
    if not fresh:
        return Unseen(
            given, "the policy was learned from or chosen by every one of these tasks: the numbers flatter it."
        )
    left_out = len(given) - len(fresh)
    note = f"{left_out} tasks the policy was learned from or chosen by are left out (--all takes them in)."
    return Unseen(fresh, note if left_out else "")


def tell_unseen(unseen: Unseen) -> list[Task]:
    """The tasks; what must be said goes to standard error."""
    if unseen.note:
        click.echo(f"note: {unseen.note}", err=True)
    return unseen.tasks


def _result_beside(policy: Path) -> tuple[str | None, set[str]]:
    """Run id and held-out tasks of the result that was saved with a policy."""
    from agentlightning.trainer.result import TrainingResult

    file = (policy if policy.is_dir() else policy.parent) / "result.json"
    if not file.is_file():
        return None, set()
    result = TrainingResult.from_json(file.read_bytes())
    return result.run_id or None, {task.task_id for task in result.tasks if task.split == "test"}
