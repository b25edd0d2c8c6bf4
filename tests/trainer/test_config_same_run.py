"""The same words in YAML, TOML, JSON and Python are the same run: same splits, same decisions, same result."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, wrap_agent

SETTINGS: dict[str, Any] = {
    "algorithm": [{"name": "apo", "params": {"rounds": 1, "num_candidates": 1, "minibatch_size": 4}}],
    "trainer": {"max_epochs": 1, "seed": 11},
    "tasks": {"train": [{"input": task.input, "expected": task.expected} for task in loud_tasks(20)]},
    "budget": {"calls": 400},
    "reward": "exact_match",
}
TOML = """
reward = "exact_match"
tasks = {{ train = {tasks} }}
[[algorithm]]
name = "apo"
params = {{ rounds = 1, num_candidates = 1, minibatch_size = 4 }}
[trainer]
max_epochs = 1
seed = 11
[budget]
calls = 400
"""


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as server:
        yield server


def outcome(server: FakeOpenAI, folder: Path, **trainer: Any) -> dict[str, Any]:
    def parrot(question: str) -> str:
        return repeat(server, question)

    settings = {"output_dir": str(folder / "out"), "data_dir": str(folder / "data"), "progress": False}
    result: TrainingResult = Trainer(wrap_agent(parrot), **settings, **trainer).train()
    kept = result.to_dict()
    for differs in ("run_id", "started_at", "cost", "output_dir"):
        kept.pop(differs)
    return kept | {"calls": result.cost.calls}


def test_a_file_in_any_format_and_keywords_are_the_same_run(server: FakeOpenAI, tmp_path: Path) -> None:
    tasks = ", ".join(f'{{input = "{t["input"]}", expected = "{t["expected"]}"}}' for t in SETTINGS["tasks"]["train"])
    (tmp_path / "a.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "a.yaml").write_text(json.dumps(SETTINGS, indent=1))  # JSON is YAML
    (tmp_path / "a.toml").write_text(TOML.format(tasks=f"[{tasks}]"))
    keywords = {**{key: value for key, value in SETTINGS.items() if key != "trainer"}, **SETTINGS["trainer"]}
    files = ("a.yaml", "a.json", "a.toml")
    runs = [outcome(server, tmp_path / f"{name}-run", config=tmp_path / name) for name in files]
    runs += [outcome(server, tmp_path / "k", **keywords), outcome(server, tmp_path / "m", config=SETTINGS)]
    assert runs[0]["verdict"] == "improved" and runs[0]["history"]
    assert all(run == runs[0] for run in runs[1:])
