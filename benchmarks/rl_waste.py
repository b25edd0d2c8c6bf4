"""How much of what learning computes is computed twice? Row tokens by trie tokens, in several shapes of rollouts.

A trie counts a prefix that rows share once: the least there is to compute. `merged` and `unmerged` are of one rollout
(one row for each conversation, one row for each call); `group` is of the merged rows of a group's 8 rollouts together;
`computed` is what went through the model in an update on 16 groups, padding counted, by the trie tokens of these.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.rl import MODEL, WORLDS, opening, say
from tests.algorithms.rl_worlds import LocalSession, Team

from agentlightning.data.call import Message
from agentlightning.data.forest import merge, unmerged
from agentlightning.data.resource import Policy
from agentlightning.data.sample import Sample
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.demo.sql.tasks import make_tasks
from agentlightning.engine.base import Learning

NUM_GROUPS, GROUP = 16, 8


async def interleaved(team: Team, task: Task) -> float:
    """One agent in two conversations, in turns: planner and helper, each told what the other says."""
    planner, helper = opening(task), opening(task, "You look up columns.")
    for _ in range(3):
        message = await say(team, "solo", planner)
        planner.append(message)
        helper += [{"role": "user", "content": _words(message)}]
        answer = await say(team, "solo", helper)
        helper.append(answer)
        planner += [{"role": "user", "content": _words(answer)}]
    return 0.0


async def folded(team: Team, task: Task) -> float:
    """After two answers the conversation so far gives way to a summary, and goes on from there."""
    messages = opening(task)
    for turn in range(4):
        if turn == 2:
            messages = [*opening(task), {"role": "user", "content": "the schema was looked up"}]
        messages.append(await say(team, "solo", messages))
        messages.append({"role": "user", "content": "the query returned 12 rows"})
    return 0.0


SHAPES: dict[str, tuple[Any, list[str]]] = {
    "several turns (`tools`)": WORLDS["tools"],
    "two agents (`team`)": WORLDS["team"],
    "one agent in two conversations, in turns": (interleaved, ["solo"]),
    "history cut off half-way": (folded, ["solo"]),
}


async def waste() -> None:
    """Print the table."""
    print("| rollouts | rows | unmerged | merged | group | computed |\n" + "|---" * 6 + "|")
    for name, (play, agents) in SHAPES.items():
        groups = await _rollouts(play, agents)
        runs = [run for group in groups for run in group]
        cells = [
            f"{mean(len(merge(run).samples) for run in runs):.1f}",
            f"{mean(unmerged(run).waste for run in runs):.2f}",
            f"{mean(merge(run).waste for run in runs):.2f}",
            f"{mean(_waste(_rows(group)) for group in groups):.2f}",
            f"{await _computed(_rows(runs)):.2f}",
        ]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


async def _rollouts(play: Any, agents: list[str]) -> list[list[Trajectory]]:
    from agentlightning.engine.torch.engine import TorchEngine

    engine, tasks = TorchEngine(MODEL, method="full", seed=0), make_tasks({"train": NUM_GROUPS}, 0)["train"]
    hot = Policy(sampling={agent: {"temperature": 1.0} for agent in agents})
    with tempfile.TemporaryDirectory() as folder:
        session = LocalSession(play, Path(folder), engine=engine, agents=agents, tasks=tasks)
        found = await asyncio.gather(*(session.rollout([task], policy=hot, n=GROUP) for task in tasks))
    await engine.close()
    return [group.trajectories for [group] in found]


def _rows(runs: Iterable[Trajectory]) -> list[Sample]:
    return [sample for run in runs for sample in merge(run).samples]


def _waste(rows: list[Sample]) -> float:
    return sum(row.num_tokens for row in rows) / _num_trie(rows)


def _num_trie(rows: list[Sample]) -> int:
    """Nodes of the tries of all rows, one trie for each agent."""
    ids = {(row.agent, *row.prompt_ids, *row.completion_ids) for row in rows}
    return len({row[: place + 1] for row in ids for place in range(1, len(row))})


async def _computed(rows: list[Sample]) -> float:
    """What an update of each agent computes, by what there is."""
    from agentlightning.engine.torch.engine import TorchEngine

    engine, total = TorchEngine(MODEL, method="full", seed=0), 0.0
    for agent in sorted({row.agent for row in rows}):
        own = [row.with_advantage(0.1) for row in rows if row.agent == agent]
        update = await engine.update(own, adapter=agent, learning=Learning(loss="grpo"))
        total += update.metrics["num_computed_tokens"]
    await engine.close()
    return total / _num_trie(rows)


def _words(message: Message) -> str:
    return str(message.get("content") or "the schema was looked up")
