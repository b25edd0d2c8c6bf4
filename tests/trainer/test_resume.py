"""A run that was cut off carries on where it was, pays nothing twice, and ends as it would have."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Task, Trainer, TrainingResult, Trajectory, open_store, wrap_agent
from agentlightning.errors import AgentError, ConfigError, DataError
from agentlightning.store.trajectories import read_trajectories

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


def test_resuming_a_finished_run_asks_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    first = whole(server, tmp_path)
    before = len(server.requests)
    again = whole(server, tmp_path, resume=first.run_id)
    assert len(server.requests) == before
    assert (again.policy.id, again.interval) == (first.policy.id, first.interval)


def test_nothing_to_resume_is_said(server: FakeOpenAI, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no unfinished run"):
        whole(server, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="no run 'run-x'"):
        whole(server, tmp_path, resume="run-x")


def test_ctrl_c_saves_what_was_done_and_says_how_to_go_on(server: FakeOpenAI, tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    server.reply(shouting_model)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(root=root, url=server.base_url)], cwd=tmp_path)
    while len(server.requests) < 20:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) != 0
    before = len(server.requests)
    result = whole(server, tmp_path, resume=True)
    assert result.verdict == "improved"
    assert len(server.requests) - before < result.cost.calls


def test_a_run_that_could_not_write_its_files_is_not_finished_and_pays_nothing_to_write_them(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(OSError, match="report"):
        whole(server, tmp_path)
    (tmp_path / "out" / "report.html").rmdir()
    (tmp_path / "out" / ".draft-0f").write_text("what a kill leaves behind")
    before = len(server.requests)
    result = whole(server, tmp_path, resume=True)
    assert len(server.requests) == before and result.verdict == "improved"
    assert not list((tmp_path / "out").rglob(".draft*")) and not (tmp_path / "out" / "earlier").exists()


def test_a_rollout_that_nobody_came_to_judge_is_judged_and_not_run_again(server: FakeOpenAI, tmp_path: Path) -> None:
    is_down = [True]

    def loud(task: Task, trajectory: Trajectory) -> float:
        if is_down[0]:
            raise DataError("the service that grades is down")
        return float(str(trajectory.output).isupper())

    def train(resume: bool) -> TrainingResult:
        agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
        folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
        return Trainer(agent, reward=loud, progress=False, max_epochs=1, **folders).train(loud_tasks(20), resume=resume)

    with pytest.raises(DataError, match="is down"):
        train(resume=False)
    ran = [t for t in _rollouts(tmp_path) if t.reward is None]
    is_down[0] = False
    train(resume=True)
    judged = {t.id: t for t in _rollouts(tmp_path)}
    assert ran and all(judged[t.id].reward is not None and judged[t.id].error is None for t in ran)


def test_what_judges_were_paid_counts_after_a_resume(server: FakeOpenAI, tmp_path: Path) -> None:
    def train(resume: str | bool) -> TrainingResult:
        agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
        folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
        tasks = [Task(task.id, task.input) for task in loud_tasks(12)]
        return Trainer(agent, progress=False, max_epochs=1, **folders).train(tasks, resume=resume)

    first = train(resume=False)
    before = len(server.requests)
    again = train(resume=first.run_id)
    assert len(server.requests) == before and first.cost.judge_calls > 0
    assert (again.cost.calls, again.cost.judge_calls) == (first.cost.calls, first.cost.judge_calls)


def _rollouts(folder: Path) -> list[Trajectory]:
    async def read() -> list[Trajectory]:
        store = open_store(folder / "data")
        try:
            return [trajectory async for trajectory in read_trajectories(store)]
        finally:
            await store.close()

    return asyncio.run(read())


def test_a_run_is_not_resumed_with_other_tasks_or_another_seed(server: FakeOpenAI, tmp_path: Path) -> None:
    first = whole(server, tmp_path)
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out", "progress": False}
    with pytest.raises(ConfigError, match="the tasks changed"):
        Trainer(agent, **folders).train(loud_tasks(20), resume=first.run_id)
    with pytest.raises(ConfigError, match=r"trainer\.seed changed"):
        Trainer(agent, seed=3, **folders).train(loud_tasks(40), resume=first.run_id)
    other = [msgspec.structs.replace(task, expected="quiet") for task in loud_tasks(40)]
    with pytest.raises(ConfigError, match="the tasks changed"):
        Trainer(agent, **folders).train(other, resume=first.run_id)
    with pytest.raises(ConfigError, match="reward changed"):
        Trainer(agent, reward="contains", **folders).train(loud_tasks(40), resume=first.run_id)
    assert whole(server, tmp_path, resume=first.run_id).policy.id == first.policy.id
