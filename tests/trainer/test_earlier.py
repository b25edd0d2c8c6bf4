"""A second run into the same folder keeps the first one's result, and says where."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, load_optimized_agent, load_tasks, wrap_agent
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.earlier import keep_earlier
from agentlightning.trainer.tasks import doubts


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as server:
        yield server


class Notes(Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def on_note(self, text: str) -> None:
        self.texts.append(text)


def test_an_earlier_result_is_kept_under_a_number_and_the_run_says_so(server: FakeOpenAI, tmp_path: Path) -> None:
    def parrot(question: str) -> str:
        return repeat(server, question)

    def run() -> tuple[TrainingResult, list[str]]:
        notes = Notes()
        folders = {"output_dir": str(tmp_path / "out"), "data_dir": str(tmp_path / "data")}
        trainer = Trainer(wrap_agent(parrot), **folders, max_epochs=1, progress=False, callbacks=[notes])
        return trainer.train(loud_tasks(20)), notes.texts

    (first, silent), (second, said), (third, _) = run(), run(), run()
    assert not any("was moved" in text for text in silent)
    [text] = [text for text in said if "was moved" in text]
    assert first.run_id in text and str(tmp_path / "out" / "earlier" / "1") in text
    kept = {number: TrainingResult.from_json((tmp_path / "out/earlier" / number / "result.json").read_bytes()).run_id
            for number in ("1", "2")}  # fmt: skip
    assert kept == {"1": first.run_id, "2": second.run_id}
    assert (tmp_path / "out" / "earlier" / "1" / "report.html").is_file()
    assert TrainingResult.from_json((tmp_path / "out" / "result.json").read_bytes()).run_id == third.run_id
    earlier = load_optimized_agent(tmp_path / "out" / "earlier" / "1", parrot)
    assert earlier("hi") == "LOUD HI"


def test_a_runs_own_files_and_other_peoples_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert keep_earlier(tmp_path, "run-1") is None
    (tmp_path / "policy.yaml").write_text("x")
    (tmp_path / "result.json").write_text('{"run_id": "run-1"}')
    assert keep_earlier(tmp_path, "run-1") is None
    assert "run-1 was moved" in (keep_earlier(tmp_path, "run-2") or "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", "notes.txt"]


def test_a_run_that_was_killed_while_it_wrote_its_files_writes_over_them(tmp_path: Path) -> None:
    policy = "format: 1\npolicy: original\ncreated: now\nmeasured: {verdict: improved, run: run-1}\n"
    (tmp_path / "policy.yaml").write_text(policy)
    assert keep_earlier(tmp_path, "run-1") is None
    assert "run-1 was moved" in (keep_earlier(tmp_path, "run-2") or "")


def test_a_move_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "earlier" / "1").mkdir(parents=True)
    (tmp_path / "earlier" / "1" / "result.json").write_text('{"run_id": "run-1"}')
    (tmp_path / "policy.yaml").write_text("x")
    keep_earlier(tmp_path, "run-2")
    assert sorted(path.name for path in (tmp_path / "earlier" / "1").iterdir()) == ["policy.yaml", "result.json"]


@pytest.mark.parametrize("key", ["question", "prompt", "query", "Question"])
def test_a_lone_question_is_the_input(key: str) -> None:
    [task] = load_tasks([{key: "What is 2 + 2?", "answer": "4"}])
    assert (task.input, task.expected) == ("What is 2 + 2?", "4")


def test_several_fields_stay_the_agents_own() -> None:
    [task] = load_tasks([{"question": "Where?", "context": "Oslo", "answer": "here"}])
    assert task.input == {"question": "Where?", "context": "Oslo"}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"input": "a", "expeted": "b"}, "1 task has a field 'expeted', which is kept as metadata. Did you mean 'expe"),
        ({"input": "a", "anwser": "b"}, "Did you mean 'answer'?"),
        ({"imput": "a", "expected": "b"}, "'imput', which is given to the agent by that name. Did you mean 'input'?"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_doubted(task: dict[str, Any], said: str) -> None:
    with warnings.catch_warnings():
        [doubt] = doubts(load_tasks([task]))
    assert said in doubt


def test_fields_that_are_only_like_ours_are_not_doubted_where_ours_is_there() -> None:
    fine = [{"input": "a", "expected": "b", "expects": "c", "difficulty": 3}, {"text": "x", "city": "y"}, "plain"]
    assert doubts(load_tasks(fine)) == []
