"""Experiment trackers hear of a run, for real: each is read back with its own package."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, wrap_agent
from agentlightning.errors import ConfigError, MissingExtra
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.trackers.base import Tracker, resolve_trackers


def needs(package: str) -> Any:
    """Skips where the package is missing, and fails where it was promised."""
    if package not in os.environ.get("AGENTLIGHTNING_EXPECT_TRACKERS", "").split(","):
        return pytest.importorskip(package, reason=f"the {package} package is not installed")
    return __import__(package)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as server:
        yield server


@pytest.fixture
def trainer_of(server: FakeOpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def parrot(question: str) -> str:
        return repeat(server, question)

    def make(*trackers: Any, agent: Any = None, **objects: Any) -> Trainer:
        config: dict[str, Any] = {
            "algorithm": {"name": "apo", "params": {"rounds": 1, "num_candidates": 1}},
            "trainer": {"max_epochs": 1},
            "trackers": list(trackers),
        }
        return Trainer(wrap_agent(agent or parrot), config=config, progress=False, **objects)

    return make


class Heard(Tracker):
    """Keeps what it is told."""

    def __init__(self, label: str = "") -> None:
        super().__init__()
        self.label = label
        self.runs: list[str] = []
        self.points: list[tuple[int, dict[str, float]]] = []
        self.ends: list[tuple[str, dict[str, float], str]] = []

    def open(self, run_id: str) -> None:
        self.runs.append(run_id)

    def write(self, numbers: dict[str, float], step: int) -> None:
        self.points.append((step, numbers))

    def close(self, outcome: str, summary: dict[str, float], note: str) -> None:
        self.ends.append((outcome, summary, note))


def train(trainer: Trainer) -> TrainingResult:
    result = trainer.train(loud_tasks(20))
    assert result.verdict == "improved"
    return result


def test_a_tracker_hears_curves_and_the_outcome_and_no_more_than_was_measured(trainer_of: Any) -> None:
    heard = Heard()
    trainer = trainer_of(trackers=[heard])
    result = train(trainer)
    names = {name for _, numbers in heard.points for name in numbers}
    assert {"validation/mean_reward", "candidates/accepted", "rollouts/mean_reward_of_stage", "rollouts/calls"} <= names
    assert [step for step, _ in heard.points] == sorted(step for step, _ in heard.points)
    [(outcome, summary, note)] = heard.ends
    assert heard.runs == [result.run_id] and outcome == "improved" and "Improved from" in note
    assert summary["held_out/final"] == result.final and summary["held_out/num_tasks"] == result.num_test_tasks
    assert summary["cost/calls"] == result.cost.calls
    assert heard.settings["algorithm.0.name"] == "apo" and heard.settings["trainer.seed"] == 0
    assert not any(key.startswith("held_out/final") for key in _summary_without_test(trainer_of))


def _summary_without_test(trainer_of: Any) -> dict[str, float]:
    heard = Heard()
    trainer_of(trackers=[heard]).train({"train": loud_tasks(12), "test": "none"})
    return heard.ends[0][1]


def test_an_evaluation_and_a_failure_end_their_runs_too(trainer_of: Any) -> None:
    heard = Heard()
    trainer_of(trackers=[heard]).evaluate(loud_tasks(3))
    broken = Heard()
    with pytest.raises(Exception, match="failed on all"):
        trainer_of(trackers=[broken], agent=_failing).train(loud_tasks(12))
    assert heard.ends[0][0] == "measured" and heard.ends[0][1]["evaluation/mean_reward"] == 0.0
    assert broken.ends[0][0] == "failed" and "boom" in broken.ends[0][2]


def _failing(question: str) -> str:
    raise ValueError("boom")


def test_trackers_come_by_name_path_or_object_and_mistakes_are_named(trainer_of: Any, tmp_path: Path) -> None:
    path = f"{__name__}:Heard"
    sys.modules[__name__].__dict__.setdefault("Heard", Heard)
    trainer = trainer_of({"name": path, "params": {"label": "x"}})
    made = resolve_trackers(trainer.config.trackers, trainer.config)
    assert type(made[0]).__name__ == "Heard" and vars(made[0])["label"] == "x"
    assert isinstance(resolve_trackers([Callback()], trainer.config)[0], Callback)
    with pytest.raises(ConfigError, match="unknown tracker 'tensorbord'. Did you mean 'tensorboard'"):
        trainer_of("tensorbord")
    with pytest.raises(ConfigError, match="has no parameter 'folde'. Did you mean 'folder'"):
        trainer_of({"name": "tensorboard", "params": {"folde": "x"}})


def test_a_missing_package_names_the_extra(trainer_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in (("tensorboard", "tensorboard.compat.proto.event_pb2"), ("mlflow", "mlflow"),
                          ("wandb", "wandb"), ("trackio", "trackio")):  # fmt: skip
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtra, match=rf"pip install 'agentlightning\[{name}\]'"):
            trainer_of(name)


def test_tensorboard_reads_the_curves_and_texts_back(trainer_of: Any, tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = train(trainer_of("tensorboard"))
    found = EventAccumulator(str(tmp_path / "tensorboard" / result.run_id))
    found.Reload()
    assert [event.value for event in found.Scalars("held_out/final")] == [pytest.approx(result.final)]
    assert len(found.Scalars("validation/mean_reward")) >= 2
    text = found.Tensors("outcome")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("improved: Improved from")


@pytest.mark.filterwarnings("ignore")  # of its own packages
@pytest.mark.parametrize("uri", ["sqlite:///{}/mlflow.db"])
def test_mlflow_reads_metrics_parameters_and_the_outcome_back(trainer_of: Any, tmp_path: Path, uri: str) -> None:
    mlflow = needs("mlflow")
    uri = uri.format(tmp_path)
    result = train(trainer_of({"name": "mlflow", "params": {"tracking_uri": uri, "experiment": "here"}}))
    client = mlflow.MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name("here").experiment_id])
    assert run.data.metrics["held_out/final"] == result.final and run.info.status == "FINISHED"
    assert run.data.params["algorithm.0.name"] == "apo"
    assert run.data.tags["agentlightning.outcome"] == "improved" and run.info.run_name == result.run_id
    assert len(client.get_metric_history(run.info.run_id, "validation/mean_reward")) >= 2


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_an_offline_run_in_its_folder(trainer_of: Any, tmp_path: Path) -> None:
    wandb = needs("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    params = {"mode": "offline", "folder": str(tmp_path)}
    result = train(trainer_of({"name": "wandb", "params": params}))
    wandb.teardown()  # its service writes the file behind our back, and is done when it has ended
    [file] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    kept = dict[str, Any]()
    for data in _records_of(file.read_bytes()):
        record = Record.FromString(data)
        items = [*record.summary.update, *record.history.item]
        kept |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
    assert kept["outcome"] == "improved" and kept["held_out/final"] == result.final
    assert "validation/mean_reward" in kept


def _records_of(log: bytes) -> Iterator[bytes]:
    """W&B's file: a header, then LevelDB's log format (blocks of 32 KiB; crc, length and type before each piece)."""
    whole, position = b"", 7
    while position + 7 <= len(log):
        if 32768 - position % 32768 < 7:  # the rest of a block is padding
            position += 32768 - position % 32768
            continue
        size, kind = int.from_bytes(log[position + 4 : position + 6], "little"), log[position + 6]
        whole += log[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or its last piece
            yield whole
            whole = b""


@pytest.mark.filterwarnings("ignore")
def test_trackio_keeps_the_curves_in_its_database(
    trainer_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    needs("trackio")
    result = train(trainer_of({"name": "trackio", "params": {"project": "here"}}))
    [file] = (tmp_path / "trackio").glob("here*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("select run_name, metrics from metrics").fetchall()
    metrics = [json.loads(text) for name, text in rows if name == result.run_id]
    assert any(each.get("held_out/final") == result.final for each in metrics)
    assert any("validation/mean_reward" in each for each in metrics)
