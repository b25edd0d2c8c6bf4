"""The trainable story: better instructions, then imitation of its own best runs, then reinforcement learning, offline.

The same code path as any user's: wrap, train, load. The model is small enough for one CPU core and was made to be lazy
(`scripts/make_demo_model.py`), and the first lines printed say so.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from agentlightning.adapters.wrap import wrap_agent
from agentlightning.data.task import Task
from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.sql import optimizer
from agentlightning.demo.sql.reward import answered_from_data
from agentlightning.demo.sql.tasks import make_tasks
from agentlightning.errors import MissingExtra
from agentlightning.trainer.result import TrainingResult
from agentlightning.trainer.trainer import Trainer

MODEL = Path(__file__).with_name("model")
SIZES = {"train": 160, "validation": 60, "test": 120}
STAGES: list[dict[str, Any]] = [
    {"name": "apo", "params": {"rounds": 3, "minibatch_size": 24, "bootstrap_demos": 0, "delete_lines": False}},
    {"name": "sft", "params": {"rollouts_per_task": 1, "epochs": 1, "learning_rate": 5e-4}},
    {"name": "rl", "params": {"iterations": 16, "batch_size": 16, "group_size": 8, "evaluate_every": 8}},
]
ENGINE = {"name": "torch", "method": "full", "device": "cpu"}
"""So small a model has no use for adapters."""
FREE = {"prices": {name: {"input": 0.0, "output": 0.0} for name in ("simulated-optimizer", "demo-model", str(MODEL))}}


def tell(*, output: str, seed: int) -> TrainingResult:
    """Run the story and print it; the result's files lie in `output`."""
    _check_installed()
    console = Console(highlight=False, soft_wrap=True)
    with _endpoint() as optimizer_url:
        from agentlightning.demo.sql import agent as ordinary

        _introduce(console, ordinary.__file__)
        folder = Path(output)
        trainer = Trainer(
            agent=wrap_agent(ordinary.answer, agent_type="openai_sdk", tools={"sql": "live"}),
            algorithm=STAGES,
            models={"policy": str(MODEL), "optimizer": {"model": "simulated-optimizer", "base_url": optimizer_url}},
            config={"engine": ENGINE},
            reward=answered_from_data,
            max_epochs=1,
            max_in_flight=64,
            seed=seed,
            budget=FREE,
            data_dir=folder / "trajectory_data",
            output_dir=folder / "optimized_results",
        )
        tasks = make_tasks(SIZES, seed)
        result = trainer.train(tasks=tasks)
        _show(console, result, trainer, tasks["test"][0])
    return result


def _introduce(console: Console, file: str | None) -> None:
    console.print(
        "Model: a [bold]language model of 0.46 million parameters[/bold] inside this package, run by PyTorch on the\n"
        "CPU. No key, no network. It was made for this demo, and made lazy; its gains are no measure of yours.\n"
        "Better instructions are proposed by a [bold]simulated optimiser[/bold], served on loopback."
    )
    console.print(f"The agent: {file} (OpenAI SDK, unchanged).\n", markup=False)


def _show(console: Console, result: TrainingResult, trainer: Trainer, task: Task) -> None:
    better = trainer.load_optimized_agent()
    given = task.input if isinstance(task.input, dict) else {"question": task.input}
    said = better(**given)
    console.print(f"\nThe agent handed back: {given['question']} → {said} (right: {task.expected})", markup=False)
    folder = Path(result.output_dir)
    console.print("\n[bold]Files[/bold]")
    for name, text in {
        "policy.yaml": "the optimised prompt and which weights belong to it",
        "report.html": "the report; open it in a browser",
        "result.json": "everything measured",
        "trajectories.jsonl": "every rollout",
    }.items():
        console.print(f"  {folder / name}  {text}", markup=False)


def _check_installed() -> None:
    for package, extra in {"openai": "demo", "torch": "train", "transformers": "train"}.items():
        if find_spec(package) is None:
            raise MissingExtra(
                f"this demo trains a model and needs {package}:  pip install 'agentlightning[demo,train]'\n"
                f"    The part that needs no PyTorch:  agentlightning demo"
                if extra == "train"
                else "the demo's agent uses the openai package:  pip install 'agentlightning[demo]'"
            )


@contextmanager
def _endpoint() -> Generator[str]:
    """Serve the optimiser, and keep the agent's client from a real endpoint and a real key."""
    environment = os.environ.copy()
    with SimulatedServer(speaker=optimizer.answer) as server:
        os.environ.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="simulated", DEMO_MODEL="demo-model")
        try:
            yield server.base_url
        finally:
            os.environ.clear()
            os.environ.update(environment)
