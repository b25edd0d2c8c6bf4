"""The projects that `kills.py` kills: a folder as a user has it, and what its runs are expected to end with.

* `apo`: the demo's agent and tickets, fewer of them, against the simulated model, which answers a request always alike;
* `capped`: the same with a budget that ends the search, so that what is lost must not be held against it;
* `sft`, `rl`: the demo's trainable model of 0.46 million parameters, learning on the CPU.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.task import Task
from agentlightning.demo import tasks as tickets
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Answer, Request
from agentlightning.demo.sql import tasks as questions
from agentlightning.demo.sql.story import MODEL
from agentlightning.store.open import open_store
from agentlightning.store.trajectories import read_trajectories

TICKETS = {"train": 12, "validation": 10, "test": 12}
QUESTIONS = {"train": 12, "validation": 8, "test": 8}
TASKS = "tasks: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}"
APO = f"""
agent: {{path: "agent.py:agent"}}
algorithm: apo
trainer: {{max_epochs: 2, max_in_flight: 4}}
{TASKS}
"""
CONFIG = {
    "apo": APO,
    "capped": f"{APO}budget: {{calls: 200}}\n",
    "sft": """
agent: {path: "agent.py:agent"}
algorithm: {name: sft, params: {rollouts_per_task: 4, epochs: 4, patience: 4, learning_rate: 2.0e-3}}
reward: "agentlightning.demo.sql.reward:answered_from_data"
""",
    "rl": """
agent: {path: "agent.py:agent"}
algorithm: {name: rl, params: {iterations: 6, batch_size: 4, group_size: 8, evaluate_every: 3, policy_lr: 0.002}}
reward: "agentlightning.demo.sql.reward:answered_from_data"
""",
}
ON_WEIGHTS = ("sft", "rl")
WEIGHTS = f"""
models: {{policy: "{MODEL}"}}
engine: {{name: torch, method: full, device: cpu}}
trainer: {{max_epochs: 1, max_in_flight: 16}}
{TASKS}
"""
AGENT = {
    "apo": "from agentlightning.demo.agent import triage as agent\n",
    "sft": "from agentlightning import wrap_agent\nfrom agentlightning.demo.sql.agent import answer\n\n"
    "agent = wrap_agent(answer, tools={'sql': 'live'})\n",
}


def write_project(world: str, folder: Path) -> None:
    """Agent, tasks and configuration, in a folder of their own."""
    folder.mkdir(parents=True)
    (folder / "agent.py").write_text(AGENT["sft" if world in ON_WEIGHTS else "apo"])
    (folder / "config.yaml").write_text(CONFIG[world] + (WEIGHTS if world in ON_WEIGHTS else ""))
    for split, tasks in tasks_of(world).items():
        lines = [json.dumps({"id": t.id, "input": t.input, "expected": t.expected}) for t in tasks]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")


def tasks_of(world: str) -> dict[str, list[Task]]:
    if world not in ON_WEIGHTS:
        return {split: tasks[: TICKETS[split]] for split, tasks in tickets.make_tasks().items()}
    return questions.make_tasks(QUESTIONS, 0)


class Listening:
    """The simulated model, and every request that reached it. Served from the benchmark's process, it survives."""

    def __init__(self) -> None:
        self.asked: Counter[bytes] = Counter()

    def __call__(self, request: Request) -> Answer:
        self.asked[msgspec.json.encode(request.messages, order="deterministic")] += 1
        return answer(request)


class OnRecord(msgspec.Struct):
    """What a project's store knows of its last training run."""

    num_calls: int = 0
    """Of rollouts that are on record and judged, and of our own models."""
    repeated: int = 0
    """Judged rollouts that are there twice."""
    num_rollouts: int = 0
    is_finished: bool = False
    losses: list[dict[str, float]] = []
    """What the algorithm logged, in order, a line that was logged again once."""


def on_record(folder: Path) -> OnRecord:
    """Read it after the kill, as anybody could."""
    return asyncio.run(_on_record(folder))


async def _on_record(folder: Path) -> OnRecord:
    store = open_store(folder / "trajectory_data")
    try:
        rollouts = [t async for t in read_trajectories(store) if t.reward is not None and t.stage != "resume"]
        answers = [stored async for stored in store.read("completion")]
        runs = [stored.record.body async for stored in store.read("run")]
        logs = [stored.record.body async for stored in store.read("log")]
    finally:
        await store.close()
    again = Counter((t.run_id, t.stage, t.split, t.policy_id, t.task, t.draw) for t in rollouts)
    lines = {body["text"]: body["metrics"] for body in logs if body.get("metrics")}
    return OnRecord(
        num_calls=sum(len(t.model_steps) for t in rollouts) + len(answers),
        repeated=sum(again.values()) - len(again),
        num_rollouts=len(rollouts),
        is_finished=runs[-1]["status"] == "finished",
        losses=list(lines.values()),
    )


def outcome(world: str, folder: Path) -> dict[str, Any]:
    """What a run ended with: everything in its result but names, times and places.

    Of reinforcement learning not the names of weights, which are hashes of them: which calls the engine answers
    together depends on the moment, and so do the last bits of a sum.
    """
    result = json.loads((folder / "optimized_results" / "result.json").read_text())
    for key in ("run_id", "started_at", "output_dir"):
        del result[key]
    result["cost"] = {key: value for key, value in result["cost"].items() if key not in ("seconds", "lost_calls")}
    if world == "rl":
        result["policy"].pop("weights", None)
        for entry in result["history"]:
            entry["policy_id"] = entry["parent_id"] = ""
        for winner in result["winners"]:
            winner["policy_id"] = ""
    written = (folder / "optimized_results").rglob("*")
    result["files"] = sorted(str(path.relative_to(folder)) for path in written if "weights" not in path.parts)
    return result


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The fields in which two outcomes differ."""
    return [key for key in {**one, **other} if one.get(key) != other.get(key)]
