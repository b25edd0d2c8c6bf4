"""Pairs of a better and a worse answer to the same messages, for DPO, from rollouts of one task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agentlightning.data.preferences import Preference, matched, preferences
from agentlightning.data.selection import judged, leave_out
from agentlightning.data.trajectory import Trajectory
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport, chosen, distinct, write_rows
from agentlightning.store.exports.sft import Flavor, for_trl


async def export_preferences(
    store: Store,
    path: str | Path,
    choice: Choice,
    *,
    flavor: Flavor = "trl",
    min_margin: float = 0.1,
    max_pairs_per_task: int = 4,
    agents: Collection[str] | None = None,
) -> ExportReport:
    """One line per pair. trl: `prompt`, `chosen`, `rejected` as messages. openai: `input`, `preferred_output`, ….

    Of each task (splits train and live) the best rollout is paired with the worst, the second best with the second
    worst and so on, while their rewards differ by at least `min_margin`. `choice.min_reward` bounds the better side.
    Rollouts in no pair are in the report, and in `<path>.left_out.jsonl`, with the reason.
    """
    everything = [t async for t in chosen(store, Choice(where=choice.where, is_masked=choice.is_masked))]
    selection = judged(everything)
    tasks: defaultdict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in selection.kept:
        tasks[trajectory.task].append(trajectory)
    rows: list[dict[str, Any]] = []
    left_out = list(selection.left_out)
    for rollouts in tasks.values():
        paired: set[str] = set()
        for better, worse in list(matched(rollouts, min_margin, choice.min_reward))[:max_pairs_per_task]:
            if found := [_row(pair, flavor) for pair in preferences(better, worse, agents)]:
                paired |= {better.id, worse.id}
                rows += found
        left_out += [leave_out(t, _why_alone(t, rollouts, min_margin)) for t in rollouts if t.id not in paired]
    rows = distinct(rows)
    await write_rows(Path(path), rows, left_out)
    return ExportReport(len(rows), len(everything), left_out)


def _row(pair: Preference, flavor: Flavor) -> dict[str, Any]:
    tools = {"tools": pair.tools} if pair.tools else {}
    if flavor == "openai":
        given = {"messages": pair.messages, **tools}
        return {"input": given, "preferred_output": [pair.better], "non_preferred_output": [pair.worse]}
    prompt = [for_trl(message) for message in pair.messages]
    return {"prompt": prompt, "chosen": [for_trl(pair.better)], "rejected": [for_trl(pair.worse)], **tools}


def _why_alone(trajectory: Trajectory, rollouts: list[Trajectory], min_margin: float) -> str:
    if len(rollouts) == 1:
        return "the only judged rollout of its task"
    rewards = [t.reward for t in rollouts if t.reward is not None]
    if max(rewards) - min(rewards) < min_margin or max(rewards) == min(rewards):
        return f"all rewards of its task lie within {min_margin:g}"
    return "no partner left whose answer parts from it after the same messages"
