"""What surrounds a rollout is set up before it and put right after it, whatever becomes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Task, Trainer, open_store, wrap_agent
from agentlightning.errors import AgentError
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.config import config_from
from agentlightning.trainer.resolve import load_agent

TASKS = loud_tasks(4)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


class Mailbox:
    """One for each task: filled before a rollout, read by the agent, emptied after it."""

    def __init__(self, server: FakeOpenAI) -> None:
        self.mails: dict[Any, str] = {}
        self.events: list[tuple[str, str]] = []
        self._server = server

    def fill(self, task: Task) -> None:
        self.events.append(("set up", task.id))
        self.mails[task.input] = f"letter to {task.input}"

    def empty(self, task: Task) -> None:
        self.events.append(("torn down", task.id))
        del self.mails[task.input]

    def read(self, question: str) -> str:
        return repeat(self._server, self.mails[question])


def evaluate(agent: Any, folder: Path, **config: Any) -> Any:
    settings: dict[str, Any] = {"trainer": {"output_dir": str(folder / "out"), **config}}
    return Trainer(agent, config=settings, data_dir=folder, progress=False, reward=lambda task, done: 1.0).evaluate(
        TASKS
    )


def test_every_rollout_finds_what_was_set_up_for_it(server: FakeOpenAI, tmp_path: Path) -> None:
    box = Mailbox(server)
    agent = wrap_agent(box.read, set_up=box.fill, tear_down=box.empty)
    measured = evaluate(agent, tmp_path)
    assert sorted(t.output for t in measured.trajectories) == sorted(f"letter to {task.input}" for task in TASKS)
    assert box.mails == {} and len(box.events) == 2 * len(TASKS)


def test_they_may_be_coroutine_functions_and_need_no_task(server: FakeOpenAI, tmp_path: Path) -> None:
    loops: list[Any] = []

    async def note() -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())

    async def agent(question: str) -> str:
        await note()
        return await asyncio.to_thread(repeat, server, question)

    evaluate(wrap_agent(agent, set_up=note, tear_down=note), tmp_path)
    assert len(loops) == 3 * len(TASKS) and len(set(loops)) == 1


def test_an_agent_that_fails_or_hangs_is_torn_down_after(server: FakeOpenAI, tmp_path: Path) -> None:
    box = Mailbox(server)

    def agent(question: str) -> str:
        if question == TASKS[0].input:
            raise ValueError("broken")
        if question == TASKS[1].input:
            time.sleep(3)
        return box.read(question)

    measured = evaluate(wrap_agent(agent, set_up=box.fill, tear_down=box.empty), tmp_path, timeout_seconds=1)
    assert {t.task: t.status for t in measured.trajectories} == {
        "t0": "failed",
        "t1": "timeout",
        "t2": "succeeded",
        "t3": "succeeded",
    }
    assert box.mails == {}


def test_what_they_do_is_no_part_of_the_rollout(server: FakeOpenAI, tmp_path: Path) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), set_up=lambda: repeat(server, "getting ready"))
    measured = evaluate(agent, tmp_path)
    assert [len(t.steps) for t in measured.trajectories] == [1] * len(TASKS)
    assert len(server.requests) == 2 * len(TASKS)


def test_a_set_up_that_fails_ends_the_run_and_costs_no_call(server: FakeOpenAI, tmp_path: Path) -> None:
    def fill(task: Task) -> None:
        raise ConnectionError("no database")

    with pytest.raises(AgentError, match=r"set_up failed for task t\d: ConnectionError: no database"):
        evaluate(wrap_agent(lambda question: repeat(server, question), set_up=fill), tmp_path)
    assert server.requests == []


def test_a_tear_down_that_fails_ends_the_run_with_the_rollout_on_record(server: FakeOpenAI, tmp_path: Path) -> None:
    def empty(task: Task) -> None:
        if task.id == "t0":
            raise ConnectionError("gone")

    async def outputs() -> list[Any]:
        store = open_store(tmp_path)
        try:
            return [t.output async for t in read_trajectories(store, {"task": "t0"})]
        finally:
            await store.close()

    with pytest.raises(AgentError, match="tear_down failed for task t0"):
        evaluate(wrap_agent(lambda question: repeat(server, question), tear_down=empty), tmp_path)
    assert asyncio.run(outputs()) == [TASKS[0].input]


def test_a_loaded_agent_is_not_surrounded_when_used(server: FakeOpenAI) -> None:
    box = Mailbox(server)
    agent = wrap_agent(lambda question: repeat(server, question), set_up=box.fill, tear_down=box.empty)
    assert agent("hello") == "hello" and box.events == []


def test_a_configuration_names_them(tmp_path: Path) -> None:
    (tmp_path / "my_agent.py").write_text("def agent(question):\n    return question\n")
    (tmp_path / "world.py").write_text("def fill(task): ...\ndef empty(): ...\nlimit = 3\n")
    section = {"path": str(tmp_path / "my_agent.py"), "set_up": str(tmp_path / "world.py") + ":fill"}
    section["tear_down"] = str(tmp_path / "world.py") + ":empty"
    agent: Any = load_agent(config_from({"agent": section})).agent
    assert (agent.set_up.__name__, agent.tear_down.__name__) == ("fill", "empty")
    section["tear_down"] = str(tmp_path / "world.py") + ":limit"
    with pytest.raises(AgentError, match="tear_down must be a function"):
        load_agent(config_from({"agent": section}))
