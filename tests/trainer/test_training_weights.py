"""Whole runs that train weights: the engine answers from the first rollout on, learns, and what it learned is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.trainer.trained_worlds import (
    agent,
    demonstrations,
    model_folder,
    questions,
    says_ok,
    share_of_letters,
    spontaneous,
    trainer,
)

from agentlightning import Trainer, load_optimized_agent
from agentlightning.errors import ConfigError, DataError, ModelError
from agentlightning.trainer.policy_folder import load_policy


def sft(**params: Any) -> list[dict[str, Any]]:
    return [{"name": "sft", "params": {"learning_rate": 1e-2, "batch_size": 8, **params}}]


def test_demonstrations_are_imitated_and_the_weights_handed_back(tmp_path: Path) -> None:
    made = trainer(tmp_path, sft(data=str(demonstrations(tmp_path)), epochs=4, patience=4))
    result = made.train(questions())
    assert (result.verdict, result.baseline, result.final) == ("improved", 0.0, 1.0)
    assert made.load_optimized_agent()("say 77") == "ok"
    (version,) = result.policy.weights.values()
    assert (tmp_path / "out" / "weights" / version / "model.safetensors").is_file()


def test_a_saved_policy_answers_in_another_process(tmp_path: Path) -> None:
    trainer(tmp_path, sft(data=str(demonstrations(tmp_path)), epochs=4, patience=4)).train(questions())
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from agentlightning import load_optimized_agent, wrap_agent\n"
        "from tests.trainer.trained_worlds import ask\n"
        "print(load_optimized_agent(sys.argv[2], wrap_agent(ask, name='small'))('say 5'))"
    )
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code, root, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "ok"


def test_the_agents_own_best_runs_are_imitated_and_the_others_listed(tmp_path: Path) -> None:
    made = trainer(
        tmp_path,
        sft(min_reward=0.7, rollouts_per_task=8, epochs=3, patience=3, best_of=2),
        reward=share_of_letters,
    )
    result = made.train({"train": questions(24), "validation": questions(48)[24:], "test": questions(72)[48:]})
    assert result.final is not None and result.baseline is not None and result.final > result.baseline + 0.1
    (left_out,) = (tmp_path / "data" / "weights").rglob("left_out.jsonl")
    reasons = {json.loads(line)["reason"] for line in left_out.read_text().splitlines()}
    assert "reward under 0.7" in reasons


def test_nothing_good_to_imitate_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no rollout reached a reward of 1.*Lower min_reward"):
        trainer(tmp_path, sft(min_reward=1.0, rollouts_per_task=1)).train(questions(9))


def test_preferences_between_its_own_runs_are_learned(tmp_path: Path) -> None:
    """First it learns to say ok or no, as it comes; then, of two answers to one question, which was the better."""
    undecided = demonstrations(tmp_path, 64, answers=("ok", "no"))
    stages = [
        *sft(data=str(undecided), epochs=6, patience=6),
        {"name": "dpo", "params": {"learning_rate": 2e-3, "epochs": 2, "rollouts_per_task": 4, "batch_size": 8}},
    ]
    made = trainer(tmp_path, stages, of=spontaneous())
    result = made.train({"train": questions(24), "validation": questions(44)[24:], "test": questions(64)[44:]})
    means = {entry.stage: entry.validation_mean for entry in result.history if entry.decision == "accepted"}
    assert result.verdict == "improved" and means["2-dpo"] > means["1-sft"]


def test_training_weights_needs_a_model_before_the_first_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage 1-sft trains weights.*models\.policy"):
        Trainer(agent(), algorithm="sft", progress=False)


def test_more_gpus_than_there_are_is_an_error_with_the_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("AGENTLIGHTNING_DEVICE", raising=False)
    made = Trainer(
        agent(), algorithm="sft", models={"policy": model_folder()}, reward=says_ok, progress=False, gpus=1024,
        data_dir=tmp_path / "data", output_dir=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=f"1024 GPUs, and there are {torch.cuda.device_count()}.*_DEVICE=cpu"):
        made.train(questions(6))


def test_asking_for_several_devices_on_a_cpu_is_answered_honestly(tmp_path: Path) -> None:
    stages = sft(data=str(demonstrations(tmp_path)), epochs=1)
    result = trainer(tmp_path, stages, gpus=2, distributed=True).train(questions(9))
    assert any("in one process, on one device" in note for note in result.notes)


def test_a_model_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    made = Trainer(
        agent(), algorithm="sft", models={"policy": str(tmp_path / "nothing")}, reward=says_ok, progress=False,
        data_dir=tmp_path / "data", output_dir=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(ModelError, match="nothing"):
        made.train(questions(6))


def test_weights_that_were_changed_after_they_were_saved_are_refused(tmp_path: Path) -> None:
    result = trainer(tmp_path, sft(data=str(demonstrations(tmp_path)), epochs=2, patience=2)).train(questions())
    (version,) = result.policy.weights.values()
    policy = (tmp_path / "out" / "policy.yaml").read_text()
    (tmp_path / "out" / "weights" / version).rename(tmp_path / "out" / "weights" / "w-000000000000")
    (tmp_path / "out" / "policy.yaml").write_text(policy.replace(version, "w-000000000000"))
    assert load_policy(tmp_path / "out").weights == {"small": "w-000000000000"}
    changed = load_optimized_agent(tmp_path / "out", agent())
    with pytest.raises(Exception, match="400"):  # the agent's own client says what its endpoint said
        changed("say 1")


SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from tests.trainer import trained_worlds
from tests.trainer.trained_worlds import questions, trainer
from tests.trainer.test_training_weights import sft
trained_worlds.model_folder = lambda: {model!r}
data = {data!r}
trainer(Path("."), sft(data=data, epochs=4, patience=4, learning_rate=2e-3)).train(questions())
"""


@pytest.mark.parametrize("epochs_before", [1, 2])
def test_a_killed_fine_tuning_ends_as_it_would_have(tmp_path: Path, epochs_before: int) -> None:
    data = str(demonstrations(tmp_path))
    stages = sft(data=data, epochs=4, patience=4, learning_rate=2e-3)
    expected = trainer(tmp_path / "whole", stages).train(questions())
    folder = tmp_path / "killed"
    folder.mkdir()
    root = str(Path(__file__).parents[2])
    script = SCRIPT.format(root=root, model=model_folder(), data=data)
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder)
    while process.poll() is None and _epochs_done(folder) < epochs_before:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = trainer(folder, stages).train(questions(), resume=True)
    assert (result.policy.weights, result.final) == (expected.policy.weights, expected.final)
    assert (result.history, result.cost.calls) == (expected.history, expected.cost.calls)


def _epochs_done(folder: Path) -> int:
    """Checkpoints on record, asked of the file itself: the run's own process holds the store."""
    import sqlite3

    file = next(folder.glob("data/*.sqlite3"), None) or next(folder.glob("data/*.db"), None)
    if file is None:
        return 0
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        try:
            (count,) = connection.execute("select count(*) from records where kind = 'checkpoint'").fetchone()
        except sqlite3.Error:
            return 0
    connection.close()
    return int(count)
