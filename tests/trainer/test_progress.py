"""What a run shows while it goes on: bars, lines, JSON lines, or nothing; and that all say what happened."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, wrap_agent
from agentlightning.errors import ConfigError
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.progress import ConsoleProgress, progress_for
from agentlightning.trainer.progress_lines import EVENTS, JsonLinesProgress

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as server:
        yield server


@pytest.fixture
def settings(server: FakeOpenAI, tmp_path: Path) -> dict[str, Any]:
    def parrot(question: str) -> str:
        return repeat(server, question)

    folders = {"output_dir": str(tmp_path / "out"), "data_dir": str(tmp_path / "data")}
    return {"agent": wrap_agent(parrot), "max_epochs": 1, **folders}


def test_json_lines_tell_a_whole_run_one_object_a_line(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = Trainer(**settings, progress="jsonl").train(loud_tasks(20))
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert said.err == "" and lines[0]["event"] == "start" and lines[-1]["event"] == "end"
    assert {line["run"] for line in lines} == {result.run_id}
    assert (lines[-1]["verdict"], lines[-1]["final"]) == (result.verdict, result.final)
    by_event = {line["event"]: line for line in lines}
    assert {"stage", "work", "rollout", "evaluated", "candidate", "note"} <= by_event.keys()
    assert by_event["rollout"]["num_calls"] == 1
    assert sum(line["event"] == "rollout" for line in lines) <= result.cost.task_calls


@pytest.mark.parametrize("mode", ["plain", "jsonl"])
def test_a_run_goes_on_when_whoever_read_of_it_has_gone(
    settings: dict[str, Any], mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as nobody:
        monkeypatch.setattr(sys, "stderr" if mode == "plain" else "stdout", nobody)
        result = Trainer(**settings, progress=mode).train(loud_tasks(20))
        monkeypatch.undo()
        with contextlib.suppress(BrokenPipeError):
            nobody.close()  # what was never written is thrown away
    assert result.verdict == "improved"


def test_an_error_is_an_event_too(settings: dict[str, Any]) -> None:
    def failing(question: str) -> str:
        raise ValueError("boom")

    text = io.StringIO()
    trainer = Trainer(**{**settings, "agent": wrap_agent(failing)}, progress="off", callbacks=[JsonLinesProgress(text)])
    with pytest.raises(Exception, match="boom"):
        trainer.train(loud_tasks(12))
    last = json.loads(text.getvalue().splitlines()[-1])
    assert last["event"] == "error" and last["kind"] == "AgentError" and "boom" in last["text"]


def test_an_evaluation_ends_with_what_was_measured(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    Trainer(**settings, progress="jsonl").evaluate(loud_tasks(3))
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["event"], last["mean"], last["num_tasks"]) == ("measured", 0.0, 3)


def test_bars_show_reward_with_its_error_calls_and_time(settings: dict[str, Any]) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=160, highlight=False)
    Trainer(**settings, progress="off", callbacks=[ConsoleProgress(console)]).train(loud_tasks(20))
    assert "reward 0.000 ± 0.000 · " in shown.getvalue() and "calls" in shown.getvalue()


def test_lines_are_for_where_no_terminal_is(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Trainer(**settings, progress="plain").train(loud_tasks(20))
    said = capsys.readouterr()
    assert said.out == "" and "the original scores 0.000" in said.err and "\x1b" not in said.err


@pytest.mark.parametrize(("mode", "expected"), [("off", 0), (False, 0), (True, 1), ("auto", 1), ("rich", 1)])
def test_a_mode_is_a_word_or_yes_or_no(mode: Any, expected: int) -> None:
    assert len(progress_for(mode)) == expected


def test_the_mode_stands_in_the_configuration_and_a_wrong_one_is_named(
    settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    agent = settings.pop("agent")
    Trainer(agent, config={"trainer": {**settings, "progress": "off"}}).evaluate(loud_tasks(2))
    assert capsys.readouterr() == ("", "")
    with pytest.raises(ConfigError, match="trainer.progress must be one of"):
        Trainer(agent, config={"trainer": {"progress": "loud"}})


def test_every_event_and_field_is_documented() -> None:
    rows = {line.split("`")[1]: line for line in DOCS.read_text().splitlines() if line.startswith("| `")}
    for kind in EVENTS:
        row = rows[kind.__struct_config__.tag]
        fields = [name for name in kind.__struct_fields__ if name not in ("run", "at")]
        assert all(f"`{name}`" in row for name in fields), (kind, row)


class Heard(Callback):
    def __init__(self) -> None:
        self.iterations: list[tuple[str, int]] = []
        self.estimates: dict[str, int] = {}
        self.num_asked = Counter[str]()
        self.own_calls = Counter[str]()

    def on_iteration(self, stage: str, iteration: int, metrics: dict[str, float]) -> None:
        self.iterations.append((stage, iteration))

    def on_estimate(self, stage: str, num_rollouts: int) -> None:
        self.estimates[stage] = num_rollouts

    def on_work(self, stage: str, num_rollouts: int) -> None:
        self.num_asked[stage] += num_rollouts

    def on_own_call(self, role: str, usd: float | None) -> None:
        self.own_calls[role] += 1


def test_rounds_estimates_and_our_own_calls_are_heard(settings: dict[str, Any]) -> None:
    heard = Heard()
    result = Trainer(**settings, progress="off", callbacks=[heard]).train(loud_tasks(20))
    rounds = [number for stage, number in heard.iterations if stage == "1-apo"]
    assert rounds and rounds == list(range(1, len(rounds) + 1))
    assert 0 < heard.num_asked["1-apo"] <= heard.estimates["1-apo"]
    assert heard.own_calls["optimizer"] == result.cost.optimizer_calls


def test_an_estimate_is_no_more_than_the_budget_has(settings: dict[str, Any]) -> None:
    heard = Heard()
    Trainer(**settings, progress="off", callbacks=[heard], budget={"calls": 90}).train(loud_tasks(20))
    assert 0 < heard.estimates["1-apo"] < 90


def test_long_lines_are_broken_between_words_on_a_terminal_and_left_whole_elsewhere() -> None:
    words = " ".join(["instruction"] * 12)
    shown, plain = io.StringIO(), io.StringIO()
    ConsoleProgress(Console(file=shown, force_terminal=True, width=60)).on_log("apo", words, {})
    ConsoleProgress(Console(file=plain, width=60)).on_log("apo", words, {})
    assert {word for line in shown.getvalue().splitlines() for word in line.split()} == {"instruction"}
    assert all(line.startswith("  instruction") for line in shown.getvalue().splitlines())
    assert plain.getvalue() == f"  {words}\n"
