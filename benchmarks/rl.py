"""Does RL learn? Fixed numbers of steps, several seeds, all runs shown; what settings change; what a step costs.

    python -m benchmarks.rl learn --seeds 0 1 2 3 4
    python -m benchmarks.rl ablate --seeds 0 1 2
    python -m benchmarks.rl rate --seeds 201 202 203
    python -m benchmarks.rl waste

The model is the demo's (0.46 million parameters), its engine the product's, and the agents below the demo's text-to-SQL
loop: `single` is judged by its first call alone, `tools` by the answer after up to five turns, `team` the same with two
agents, of which one looks columns up and the other queries and answers, each with weights of its own: all parameters,
or (`adapters`) a LoRA adapter of rank 16. Success is greedy, on questions nobody learned from.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, Literal

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.algorithms.rl_worlds import LocalSession, Team  # noqa: E402

from agentlightning.algorithms import ALGORITHMS  # noqa: E402
from agentlightning.algorithms.base import Evaluation  # noqa: E402
from agentlightning.data.call import Call, Message  # noqa: E402
from agentlightning.data.resource import Policy  # noqa: E402
from agentlightning.data.task import Task  # noqa: E402
from agentlightning.data.trajectory import Step  # noqa: E402
from agentlightning.demo.sql.agent import MAX_TURNS, SYSTEM, TOOLS, use_tool  # noqa: E402
from agentlightning.demo.sql.tasks import make_tasks  # noqa: E402
from agentlightning.demo.sql.world import THINGS  # noqa: E402

MODEL = ROOT / "src" / "agentlightning" / "demo" / "sql" / "model"
LINES = f"{SYSTEM}\nCheck the schema first."
SETTINGS: dict[str, Any] = {"iterations": 16, "batch_size": 8, "group_size": 8, "evaluate_every": 16, "policy_lr": 3e-4}
ADAPTERS: dict[str, Any] = {"method": "lora", "policy_lr": 3e-3}
NUM_HELD_OUT = 60


async def say(team: Team, agent: str, messages: list[Message]) -> Message:
    """The agent's next message. Its own temperature is 0; training overrides it."""
    call = Call(agent, "demo", list(messages), tools=TOOLS, params={"temperature": 0, "max_tokens": 32})
    call = team.policy.apply(call).call
    future = team.engine.sample(call, weights=team.policy.weights.get(agent, ""), rollout_id=team.rollout_id)
    reply = await asyncio.wrap_future(future)
    number = len(team.steps)
    common: dict[str, Any] = {"kind": "model", "started_at": 0.0, "policy_id": team.policy.id, "agent": agent}
    step = Step(id=f"{team.rollout_id}.{number}", rollout_id=team.rollout_id, index=number, **common)
    team.steps.append(msgspec.structs.replace(step, call=call, reply=reply))
    return reply.message


def opening(task: Task, system: str = LINES) -> list[Message]:
    assert isinstance(task.input, dict)
    return [{"role": "system", "content": system}, {"role": "user", "content": task.input["question"]}]


async def single(team: Team, task: Task) -> float:
    """Right if the first call looks up just the things the question is about, all of them."""
    message = await say(team, "solo", opening(task, SYSTEM))
    calls = message.get("tool_calls") or []
    if len(calls) != 1 or calls[0]["function"]["name"] != "schema":
        return 0.0
    try:
        words = json.loads(calls[0]["function"]["arguments"]).get("words")
    except ValueError:
        return 0.0
    return float(sorted(words or []) == sorted(_things(task)))


def _things(task: Task) -> list[str]:
    assert isinstance(task.input, dict)
    return [thing for thing in THINGS if thing in task.input["question"].split()]


async def conversation(team: Team, task: Task, speaker: Callable[[int], str]) -> float:
    """The demo's agent. 1 for the right answer, if a tool returned it."""
    messages, results = opening(task), list[str]()
    assert isinstance(task.input, dict)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(task.input["database"])
        for turn in range(MAX_TURNS):
            message = await say(team, speaker(turn), messages)
            messages.append(message)
            if not message.get("tool_calls"):
                output = str(message.get("content") or "").strip()
                return float(output == task.expected and output in results)
            for call in message["tool_calls"]:
                results.append(use_tool(connection, call["function"]["name"], call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": results[-1]})
    return 0.0


async def tools(team: Team, task: Task) -> float:
    return await conversation(team, task, lambda turn: "solo")


async def pair(team: Team, task: Task) -> float:
    return await conversation(team, task, lambda turn: "scout" if turn == 0 else "writer")


WORLDS: dict[str, tuple[Any, list[str]]] = {
    "single": (single, ["solo"]),
    "tools": (tools, ["solo"]),
    "team": (pair, ["scout", "writer"]),
}


class HeldOutSession(LocalSession):
    """Measures on questions of their own, once each."""

    async def evaluate(self, policy: Policy) -> Evaluation:
        if policy.id not in self._evaluations:
            groups = await asyncio.gather(*(self.rollout([task], policy=policy) for task in self.validation_tasks))
            scores = {group.task_id: group.mean or 0.0 for [group] in groups}
            self._evaluations[policy.id] = Evaluation(policy.id, scores)
        return self._evaluations[policy.id]


async def train(
    world: str, seed: int, *, method: Literal["lora", "qlora", "full"] = "full", **settings: Any
) -> dict[str, Any]:
    """One run: success before and after, the curve of training rewards, CPU-seconds."""
    from agentlightning.engine.torch.engine import TorchEngine

    play, agents = WORLDS[world]
    tasks = make_tasks({"train": 96, "validation": NUM_HELD_OUT}, seed)
    engine = TorchEngine(MODEL, method=method, seed=seed)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        session = HeldOutSession(
            play, Path(folder), engine=engine, agents=agents, tasks=tasks["train"], max_epochs=1, seed=seed
        )
        session.validation_tasks = tasks["validation"]
        learned = await ALGORITHMS.load("rl")(**SETTINGS | {"keep_best": False} | settings).train(session)
        before, after = (await session.evaluate(session.policy)).mean, (await session.evaluate(learned)).mean
    await engine.close()
    seconds = sum(session.metric("seconds_sampling")) + sum(session.metric("seconds_learning"))
    return {
        "before": before,
        "after": after,
        "curve": session.metric("reward"),
        "success": session.metric("success"),
        "cpu": time.process_time() - began,
        "steps": len(session.metric("reward")),
        "seconds": seconds,
    }


def show(world: str, label: str, seed: int, found: dict[str, Any]) -> None:
    curve = " ".join(f"{value:.2f}" for value in found["curve"])
    row = (
        f"| {world} | {label} | {seed} | {found['before']:.3f} | {found['after']:.3f} | {found['cpu']:.0f} | {curve} |"
    )
    print(row, flush=True)


HEADER = "| task | setting | seed | before | after | CPU-s | mean training reward, by iteration |\n" + "|---" * 7 + "|"


def learn(worlds: Sequence[str], seeds: Sequence[int]) -> None:
    print(HEADER)
    for world in worlds:
        for label, settings in (("grpo", {}), *((("grpo, adapters", ADAPTERS),) if world == "team" else ())):
            after: list[float] = []
            for seed in seeds:
                found = asyncio.run(train(world, seed, **settings))
                after.append(found["after"])
                show(world, label, seed, found)
            print(f"median {world}, {label}: {median(after):.3f}", flush=True)


ABLATIONS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "single": [
        ("fresh", {}),
        ("stale 3, corrected", {"max_staleness": 3}),
        ("stale 3, not corrected", {"max_staleness": 3, "correction": "none"}),
    ],
    "team": [
        ("per agent", ADAPTERS),
        ("shared", ADAPTERS | {"normalise": "shared"}),
        ("difference", ADAPTERS | {"cooperation": "difference"}),
    ],
    "tools": [(credit, {"credit": credit}) for credit in ("episode", "discounted", "steps", "anchor")],
}


def ablate(worlds: Sequence[str], seeds: Sequence[int]) -> None:
    print(HEADER)
    for world in worlds:
        for label, settings in ABLATIONS[world]:
            for seed in seeds:
                show(world, label, seed, asyncio.run(train(world, seed, **settings)))


def rates(seeds: Sequence[int]) -> None:
    """`team` measured after every iteration: how deep does success fall once it was above 0.9?"""
    print("| learning rate | seed | lowest after 0.9 was passed | last | success, by iteration |\n" + "|---" * 5 + "|")
    for rate in (3e-4, 6e-4):
        for seed in seeds:
            found = asyncio.run(train("team", seed, iterations=12, policy_lr=rate, evaluate_every=1))["success"]
            first = next((i for i, value in enumerate(found) if value > 0.9), len(found) - 1)
            curve = " ".join(f"{value:.2f}" for value in found)
            print(f"| {rate:g} | {seed} | {min(found[first:]):.3f} | {found[-1]:.3f} | {curve} |", flush=True)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("learn", "ablate", "rate", "waste"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    given = parser.parse_args()
    from transformers.utils.logging import disable_progress_bar

    torch.set_num_threads(1)
    disable_progress_bar()
    if given.what == "waste":
        from benchmarks.rl_waste import waste

        asyncio.run(waste())
    elif given.what == "rate":
        rates(given.seeds)
    else:
        {"learn": learn, "ablate": ablate}[given.what](given.worlds, given.seeds)


if __name__ == "__main__":
    main()
