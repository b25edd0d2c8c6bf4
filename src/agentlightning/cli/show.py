"""What the store knows, from the command line: runs and trajectories."""

from __future__ import annotations

import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agentlightning.cli.store_option import STORE, with_store
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store
from agentlightning.store.trajectories import read_trajectories


@click.command()
@STORE
def ls(store: str) -> None:
    """List the runs of a store, newest last."""
    runs = with_store(store, _runs)
    table = Table("run", "agent", "started", "status", "verdict", "before", "after", "calls")
    for run_id, body in runs.items():
        result = body.get("result") or {}
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(body.get("started_at", 0)))
        numbers = [f"{result[key]:.3f}" if result.get(key) is not None else "" for key in ("baseline", "final")]
        calls = str((result.get("cost") or {}).get("calls", ""))
        table.add_row(
            run_id, body.get("agent", ""), started, body.get("status", ""), result.get("verdict", ""), *numbers, calls
        )
    Console().print(table if runs else f"no runs in {store}")


@click.command()
@click.argument("id")
@STORE
def show(id: str, store: str) -> None:
    """Show a run (its rollouts), or one rollout step by step."""
    trajectories = with_store(store, lambda opened: _find(opened, id))
    if not trajectories:
        raise DataError(f"there is no run and no rollout {id!r} in {store}. `agentlightning ls` lists the runs.")
    console = Console()
    if len(trajectories) == 1 and trajectories[0].id == id:
        _show_rollout(console, trajectories[0])
        return
    table = Table("rollout", "stage", "split", "policy", "task", "status", "reward", "why")
    for t in trajectories:
        reward = "" if t.reward is None else f"{t.reward:.2f}"
        table.add_row(t.id, t.stage, t.split, t.policy_id, t.task, t.status, reward, (t.reason or t.error or "")[:60])
    console.print(table)


async def _runs(store: Store) -> dict[str, dict[str, Any]]:
    """The latest record of each run."""
    runs: dict[str, dict[str, Any]] = {}
    async for stored in store.read("run"):
        runs[stored.record.id] = stored.record.body
    return runs


async def _find(store: Store, id: str) -> list[Trajectory]:
    for field in ("id", "run"):
        found = [trajectory async for trajectory in read_trajectories(store, {field: id})]
        if found:
            return found
    return []


def _show_rollout(console: Console, trajectory: Trajectory) -> None:
    reward = (
        "none" if trajectory.reward is None else f"{trajectory.reward:.2f} ({trajectory.reason or 'no reason given'})"
    )
    console.print(f"[bold]{trajectory.id}[/bold]  {trajectory.status}  reward {reward}")
    console.print("input   ", trajectory.input, markup=False)
    for step in trajectory.steps:
        console.print(f"  {step.index}. {_line(step)}", markup=False)
    console.print("output  ", trajectory.output, markup=False)
    if trajectory.expected is not None:
        console.print("expected", trajectory.expected, markup=False)
    if trajectory.error:
        console.print("error   ", trajectory.error, markup=False)


def _line(step: Step) -> str:
    if step.kind != "model":
        return f"{step.kind} {step.name}({step.arguments}) → {step.error or step.result}"
    asked = step.call.model if step.call else "?"
    if step.error or step.reply is None:
        return f"model {asked} → {step.error or 'no answer'}"
    calls = [call.get("function", {}) for call in step.reply.message.get("tool_calls") or []]
    said = step.reply.text or "; ".join(f"calls {call.get('name')}({call.get('arguments')})" for call in calls)
    return f"model {asked} → {said}"
