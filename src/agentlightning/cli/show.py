"""What the store knows, from the command line: its runs, the rollouts of a run, one rollout step by step."""

from __future__ import annotations

import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agentlightning.cli.stats import number, share
from agentlightning.cli.store_option import STORE, WHERE, expect_store, parse_where, with_store
from agentlightning.cli.tables import ID, console
from agentlightning.data.features import features
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store
from agentlightning.store.statistics import Tally, latest_runs, tallies_by_run
from agentlightning.store.trajectories import read_trajectories

_TEXT_CHARACTERS = 2_000
"""Of one text in a rollout's view; `export` has all of it."""


@click.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object a run on standard output.")
@STORE
def ls(is_json: bool, store: str) -> None:
    """List the runs of a store, newest last, with what came of them or how far they are."""
    expect_store(store)
    runs, tallies = with_store(store, _runs)
    if is_json:
        for run_id, body in runs.items():
            click.echo(json.dumps({"run": run_id, **_run_facts(body, tallies.get(run_id, Tally()))}))
        return
    out = console()
    table = Table(
        ID("run"), "agent", "started", "status", "verdict", "before", "after", "rollouts", "reward", "calls", "usd"
    )
    for run_id, body in runs.items():
        table.add_row(run_id, *_run_row(body, tallies.get(run_id, Tally())))
    out.print(table if runs else f"no runs in {store}")
    if live := tallies.get(""):
        reward = f", mean reward {live.mean_reward:.3f}" if live.mean_reward is not None else ""
        out.print(
            f"and {live.num_rollouts} rollouts outside any run (live, imported), {live.num_judged} judged{reward}"
        )


@click.command()
@click.argument("id")
@WHERE
@click.option("--limit", "-n", type=click.IntRange(min=1), default=200, show_default=True, help="Rollouts at most.")
@STORE
def show(id: str, where: tuple[str, ...], limit: int, store: str) -> None:
    """Show a run (its rollouts, failures first), or one rollout step by step."""
    expect_store(store)
    body, trajectories = with_store(store, lambda opened: _find(opened, id, parse_where(where)))
    if body is None and not trajectories:
        raise DataError(f"there is no run and no rollout {id!r} in {store}. `agentlightning ls` lists the runs.")
    if body is None and trajectories[0].id == id:
        _show_rollout(console(), trajectories[0])
        return
    _show_run(console(), id, body or {}, trajectories, limit)


async def _runs(store: Store) -> tuple[dict[str, dict[str, Any]], dict[str, Tally]]:
    tallies = await tallies_by_run(store)
    imported = {run: dict[str, Any]() for run in tallies if run}
    return imported | await latest_runs(store), tallies


async def _find(store: Store, id: str, where: dict[str, Any]) -> tuple[dict[str, Any] | None, list[Trajectory]]:
    """A run's record with its rollouts, or no record and the one rollout."""
    found = [trajectory async for trajectory in read_trajectories(store, {"id": id})]
    if found:
        return None, found
    body = (await latest_runs(store)).get(id)
    return body, [trajectory async for trajectory in read_trajectories(store, {**where, "run": id})]


def _run_facts(body: dict[str, Any], tally: Tally) -> dict[str, Any]:
    result = body.get("result") or {}
    cost = result.get("cost") or {}
    return {
        "agent": body.get("agent", ""),
        "started_at": body.get("started_at"),
        "status": body.get("status", ""),
        "kind": body.get("kind", ""),
        "verdict": result.get("verdict"),
        "before": result.get("baseline"),
        "after": result.get("final", body.get("mean")),
        "rollouts": tally.num_rollouts,
        "reward": tally.mean_reward,
        "calls": cost.get("calls"),
        "usd": cost.get("usd"),
    }


def _run_row(body: dict[str, Any], tally: Tally) -> list[str]:
    facts = _run_facts(body, tally)
    began = facts["started_at"]
    return [
        facts["agent"],
        time.strftime("%Y-%m-%d %H:%M", time.localtime(began)) if began is not None else "",
        facts["status"],
        facts["verdict"] or (facts["kind"] if facts["kind"] != "training" else ""),
        number(facts["before"], 3),
        number(facts["after"], 3),
        str(facts["rollouts"]),
        number(facts["reward"], 3),
        "" if facts["calls"] is None else str(facts["calls"]),
        number(facts["usd"], 4),
    ]


def _show_run(console: Console, id: str, body: dict[str, Any], trajectories: list[Trajectory], limit: int) -> None:
    result = body.get("result") or {}
    said = [f"{key} {body[key]}" for key in ("status", "agent") if body.get(key)]
    said += [f"{key} {result[key]}" for key in ("verdict", "baseline", "final") if result.get(key) is not None]
    console.print(f"{id}  {' · '.join(said)}", markup=False)
    if body.get("error"):
        console.print(f"error   {body['error']}", markup=False)
    shown = sorted(trajectories, key=_badness)[:limit]
    table = Table(
        ID("rollout"), "stage", "split", ID("policy"), ID("task"), "status", "reward", "calls", "s", "tags", "why"
    )
    for t in shown:
        found = t.features or features(t)
        tags = ", ".join(tag.name for tag in found.error_tags)
        why = (t.reason or t.error or "")[:60]
        numbers = (number(t.reward), str(found.num_model_calls), number(t.seconds, 1))
        table.add_row(t.id, t.stage, t.split, t.policy_id, t.task, t.status, *numbers, tags, why)
    console.print(table)
    if len(shown) < len(trajectories):
        console.print(f"{len(trajectories) - len(shown)} more; --limit {len(trajectories)} shows all")
    decided = [t.features.success for t in trajectories if t.features and t.features.success is not None]
    if decided:
        console.print(
            f"success {share(sum(decided) / len(decided))} of {len(decided)}; more: agentlightning stats {id}"
        )


def _badness(trajectory: Trajectory) -> tuple[bool, float]:
    """Failed ones first, then the lowest rewards, then what nobody judged."""
    is_failed = trajectory.status in ("failed", "timeout")
    return not is_failed, float("inf") if trajectory.reward is None else trajectory.reward


def _show_rollout(console: Console, trajectory: Trajectory) -> None:
    def line(name: str, value: Any) -> None:
        console.print(f"{name:<9}{_short(value)}", markup=False, highlight=False)

    found = trajectory.features or features(trajectory)
    reward = (
        "none" if trajectory.reward is None else f"{trajectory.reward:.2f} ({trajectory.reason or 'no reason given'})"
    )
    console.print(f"{trajectory.id}  {trajectory.status}  reward {reward}", markup=False, style="bold")
    cost = "" if trajectory.usd is None else f" · ${trajectory.usd:.4f}"
    usage = f"{trajectory.usage.input_tokens:,} tokens in, {trajectory.usage.output_tokens:,} out{cost}"
    line("of", f"{trajectory.agent_id} · {trajectory.split} · task {trajectory.task} · policy {trajectory.policy_id}")
    line("spent", f"{number(trajectory.seconds)} s · {usage}")
    line("input", trajectory.input)
    failing = {tag.step: tag.name for tag in reversed(found.error_tags)}
    for step in trajectory.steps:
        mark = f"  ← {failing[step.index]}" if step.index in failing else ""
        who = f"{step.agent}: " if step.agent != trajectory.agent_id else ""
        took = "" if step.latency_seconds is None else f" [{step.latency_seconds:.2f} s]"
        console.print(f"  {step.index}. {who}{_short(_line(step))}{took}{mark}", markup=False, highlight=False)
    line("output", trajectory.output)
    if trajectory.expected is not None:
        line("expected", trajectory.expected)
    if trajectory.error:
        line("error", trajectory.error)
    for tag in found.error_tags:
        line("tag", f"{tag.name}: {tag.evidence}")
    for given in trajectory.rewards:
        line(
            "metric" if given.is_metric else "reward",
            f"{given.name} {given.value:g} ({given.source}) {given.reason or ''}",
        )


def _line(step: Step) -> str:
    if step.kind != "model":
        return f"{step.kind} {step.name}({step.arguments}) → {step.error or step.result}"
    asked = step.call.model if step.call else "?"
    if step.error or step.reply is None:
        return f"model {asked} → {step.error or 'no answer'}"
    calls = [call.get("function", {}) for call in step.reply.message.get("tool_calls") or []]
    said = step.reply.text or "; ".join(f"calls {call.get('name')}({call.get('arguments')})" for call in calls)
    return f"model {asked} → {said}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _TEXT_CHARACTERS else f"{text[:_TEXT_CHARACTERS]}… ({len(text):,} characters)"
