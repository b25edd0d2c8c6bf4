"""A run that was cut off carries on where it was, pays nothing twice, and ends as it would have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, TrainingResult, wrap_agent
from agentlightning.errors import AgentError, ConfigError

SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from agentlightning import Trainer, wrap_agent
from tests.trainer.worlds import loud_tasks, repeat

class Server:
    base_url = {url!r}

agent = wrap_agent(lambda question: repeat(Server(), question), name="parrot")
Trainer(agent, data_dir="data", output_dir="out", progress=False, max_epochs=2, max_in_flight=4).train(loud_tasks(40))
"""


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model, chunk_delay_seconds=0) as running:
        yield running


def whole(server: FakeOpenAI, folder: Path, resume: str | bool = False) -> TrainingResult:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    made = Trainer(
        agent, data_dir=folder / "data", output_dir=folder / "out", progress=False, max_epochs=2, max_in_flight=4
    )
    return made.train(loud_tasks(40), resume=resume)


@pytest.mark.parametrize("after_calls", [5, 30, 45, 60])
def test_a_killed_run_resumes_without_paying_twice(server: FakeOpenAI, tmp_path: Path, after_calls: int) -> None:
    expected = whole(server, tmp_path / "uninterrupted")
    server.requests.clear()
    folder = tmp_path / "killed"
    folder.mkdir()
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(root=root, url=server.base_url)], cwd=folder)
    while len(server.requests) < after_calls and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = whole(server, folder, resume=True)
    assert (result.verdict, result.policy.id, result.final) == (expected.verdict, expected.policy.id, expected.final)
    running, being_written, probe = 4, 2 * 4, 2
    assert len(server.requests) <= expected.cost.calls + running + being_written + probe


def test_what_is_resumed_is_a_training_and_no_evaluation(server: FakeOpenAI, tmp_path: Path) -> None:
    def broken(question: str) -> str:
        raise ValueError(question)

    evaluation = Trainer(wrap_agent(broken), data_dir=tmp_path / "data", output_dir=tmp_path / "out", progress=False)
    with pytest.raises(AgentError):
        evaluation.evaluate(loud_tasks(4))
    with pytest.raises(ConfigError, match="no unfinished run"):
        whole(server, tmp_path, resume=True)


def test_resuming_a_finished_run_asks_only_for_the_endpoint(server: FakeOpenAI, tmp_path: Path) -> None:
    first = whole(server, tmp_path)
    before = len(server.requests)
    again = whole(server, tmp_path, resume=first.run_id)
    assert len(server.requests) - before == 1
    assert (again.policy.id, again.interval) == (first.policy.id, first.interval)


def test_nothing_to_resume_is_said(server: FakeOpenAI, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no unfinished run"):
        whole(server, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="no run 'run-x'"):
        whole(server, tmp_path, resume="run-x")


def test_ctrl_c_saves_what_was_done_and_says_how_to_go_on(server: FakeOpenAI, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    server.reply(lambda body: shouting_model(body))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(root=root, url=server.base_url)], cwd=tmp_path)
    while len(server.requests) < 20:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    before = len(server.requests)
    result = whole(server, tmp_path, resume=True)
    assert result.verdict == "improved"
    assert len(server.requests) - before < result.cost.calls


def test_a_run_is_not_resumed_with_other_tasks_or_another_seed(server: FakeOpenAI, tmp_path: Path) -> None:
    first = whole(server, tmp_path)
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out", "progress": False}
    with pytest.raises(ConfigError, match="the tasks changed"):
        Trainer(agent, **folders).train(loud_tasks(20), resume=first.run_id)
    with pytest.raises(ConfigError, match=r"trainer\.seed changed"):
        Trainer(agent, seed=3, **folders).train(loud_tasks(40), resume=first.run_id)
    assert whole(server, tmp_path, resume=first.run_id).policy.id == first.policy.id
