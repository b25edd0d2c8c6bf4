"""agentlightning 0.3.0's APO on a simulated world, in a process of its own: its package has our package's name.

Its request templates see messages and the reward; the grader's words are put into the trace as a grader's call, which
is where they would stand. Its critique is the best there could be: it passes on the runs it was shown, word for word.
It optimises one prompt only, so of several agents' texts the first.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.apo.families import AnyWorld, Found, propose

PYTHON = os.environ.get("AGENTLIGHTNING_03_PYTHON", "")
"""The python of an environment with agentlightning[apo]==0.3.0."""

SETTINGS: dict[int, dict[str, int]] = {
    calls: {"gradient_batch_size": 8, "val_batch_size": 8, "beam_rounds": 50, "beam_width": width, "branch_factor": b}
    for calls, width, b in ((200, 1, 3), (500, 2, 2), (1000, 2, 3))
}
"""Calls → settings that leave room for two, four and six rounds; with its defaults one round takes 400 calls."""


class Process:
    """The other process, started once for all searches."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("peer_lightning_process.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of agentlightning 0.3.0 ended; run {PYTHON} on its file to see why")
        return json.loads(line)


@functools.cache
def process() -> Process:
    return Process()


def run_lightning(world: AnyWorld, calls: int) -> Found:
    """One search. It has no budget of its own: when the calls are spent it is stopped and its best is taken."""
    agent = world.agents[0]
    search = Search(world, calls)
    told = {
        "start": world.start_of(agent),
        "train": [task.id for task in world.tasks("train")],
        "validation": [task.id for task in world.tasks("validation")],
        "settings": SETTINGS[calls],
        "seed": world.seed,
    }
    process().send(told)
    while "best" not in (asked := process().receive()):
        process().send({"is_over": True} if search.spent >= calls else search.answer(asked))
    texts = {name: world.start_of(name) for name in world.agents}
    return texts | {agent: asked["best"]}, {}, search.spent


class Search:
    """Answers what the other process asks for, and counts it."""

    def __init__(self, world: AnyWorld, calls: int) -> None:
        self.world, self.calls, self.spent = world, calls, 0
        self._tasks = {task.id: task for split in ("train", "validation") for task in world.tasks(split)}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if "run" in asked:
            return self._run(asked["run"], asked["prompt"])
        self.spent += 1
        request = asked["complete"]
        if "Return only the" in request:
            return {"text": propose(self.world, request, self.spent)}
        return {"text": "Critique:\n" + request.partition("### Sample Run")[2]}

    def _run(self, task_id: str, prompt: str) -> dict[str, Any]:
        world, task = self.world, self._tasks[task_id]
        self.spent += world.calls_per_rollout
        given, first = str(task.input), world.agents[0]
        said = [world.act(a, prompt if a == first else world.start_of(a), [], given) for a in world.agents]
        output = "; ".join(said)
        feedback = world.reason(given, output) + (f". Expected: {task.expected}" if task.expected else "")
        reward = world.in_unit(world.grade(given, output))
        return {"input": given, "output": output, "feedback": feedback, "reward": reward}
