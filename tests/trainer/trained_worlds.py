"""A small random model behind an ordinary agent, so that whole runs that train weights can be watched in seconds.

The agent's own endpoint does not exist: who answers is the engine.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
from tests.models_made_here import save_model

from agentlightning import Task, Trainer, Trajectory, WrappedAgent, wrap_agent

NOWHERE = "http://127.0.0.1:9/v1"
CLIENT = httpx.Client(verify=False)


@cache
def model_folder() -> str:
    """One model for all tests of a process."""
    return save_model(Path(mkdtemp(prefix="agentlightning-test-")), "plain", hidden_size=16)


def ask(question: str, *, temperature: float = 0.0, max_tokens: int = 4) -> str:
    """An agent as one writes it: one call, its text."""
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": question}],
        "temperature": temperature,
        "max_tokens": max_tokens,
    }
    response = CLIENT.post(f"{NOWHERE}/chat/completions", json=body, timeout=60)
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


def agent() -> WrappedAgent:
    return wrap_agent(ask, name="small")


def spontaneous() -> WrappedAgent:
    """One whose answers are drawn by chance."""
    return wrap_agent(lambda question: ask(question, temperature=1.0), name="small")


def questions(count: int = 24) -> list[Task]:
    return [Task(f"q{i}", f"say {i}", expected="ok") for i in range(count)]


def says_ok(task: Task, trajectory: Trajectory) -> float:
    return float(trajectory.output == task.expected)


def share_of_letters(task: Task, trajectory: Trajectory) -> tuple[float, str]:
    """Something a random model does now and then, by degrees."""
    said = str(trajectory.output)
    letters = sum(character.isascii() and character.isalpha() for character in said)
    return letters / max(1, len(said)), f"{letters} of {len(said)} are letters"


def demonstrations(folder: Path, count: int = 32, answers: tuple[str, ...] = ("ok",)) -> Path:
    """A file in which every question is answered with ok, or with some other answers in turn."""
    path = folder / "demonstrations.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for i in range(100, 100 + count):
            answer = answers[i % len(answers)]
            messages = [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def trainer(folder: Path, algorithm: Any, *, of: WrappedAgent | None = None, **settings: Any) -> Trainer:
    given: dict[str, Any] = {"reward": says_ok, "max_epochs": 1, "max_in_flight": 8, **settings}
    return Trainer(
        of or agent(),
        algorithm=algorithm,
        config={"engine": {"name": "torch", "method": "full", "device": "cpu"}},
        models={"policy": model_folder()},
        data_dir=folder / "data",
        output_dir=folder / "out",
        progress=False,
        **given,
    )
