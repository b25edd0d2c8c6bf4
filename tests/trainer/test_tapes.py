"""What tools answered in earlier runs answers for them again: from the store, without running them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Callback, Trainer, wrap_agent
from agentlightning.errors import AgentError
from agentlightning.trainer.measure import Measurement

TASKS = loud_tasks(4)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


SOURCE = """
def look_up(word):
    runs.append(word)
    return {"meaning": word[::-1]}

def reader(question):
    return repeat(server, look_up(question)["meaning"])
"""


class World(Callback):
    """An agent whose tool notes when it really ran; and what its runs have to say."""

    def __init__(self, server: FakeOpenAI, folder: Path) -> None:
        self.runs: list[str] = []
        self.notes: list[str] = []
        self._server, self._folder = server, folder

    def on_note(self, text: str) -> None:
        self.notes.append(text)

    def evaluate(self, mode: Any) -> Measurement:
        module: Any = ModuleType("a_users_file")
        vars(module).update(runs=self.runs, repeat=repeat, server=self._server)
        exec(SOURCE, vars(module))
        agent = wrap_agent(module.reader, tools={"look_up": mode})
        folders: Any = {"data_dir": self._folder, "output_dir": self._folder / "out"}
        return Trainer(agent, **folders, progress=False, reward=one, callbacks=[self]).evaluate(TASKS)


def one(task: Any, trajectory: Any) -> float:
    return 1.0


def test_a_later_run_replays_what_an_earlier_one_recorded(server: FakeOpenAI, tmp_path: Path) -> None:
    world = World(server, tmp_path)
    first = world.evaluate("record")
    assert len(world.runs) == len(TASKS)
    second = world.evaluate("replay")
    assert len(world.runs) == len(TASKS)
    assert [t.output for t in second.trajectories] == [t.output for t in first.trajectories]
    assert all(step.is_simulated for t in second.trajectories for step in t.steps if step.kind == "tool")


def test_recording_goes_on_where_an_earlier_run_ended(server: FakeOpenAI, tmp_path: Path) -> None:
    world = World(server, tmp_path)
    world.evaluate("live")
    world.evaluate("record")
    assert len(world.runs) == len(TASKS)


def test_what_a_stub_said_is_never_replayed(server: FakeOpenAI, tmp_path: Path) -> None:
    world = World(server, tmp_path)
    world.evaluate({"mode": "stub", "returns": {"meaning": "stubbed"}})
    world.evaluate("record")
    assert len(world.runs) == len(TASKS)


def test_a_replay_of_nothing_is_pointed_out_before_the_first_rollout(server: FakeOpenAI, tmp_path: Path) -> None:
    world = World(server, tmp_path)
    with pytest.raises(AgentError, match="replay mode and was never recorded"):
        world.evaluate("replay")
    assert "tool 'look_up' is in replay mode, but no answer of it is on record" in world.notes[0]
    assert world.runs == []
