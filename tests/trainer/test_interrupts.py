"""Ctrl-C once: what is in flight ends and is kept. Twice: the run stops now. Either way it can be carried on."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer import isolated_agents as agents
from tests.trainer.worlds import loud_tasks, shouting_model

from agentlightning import Trainer, TrainingResult, open_store
from agentlightning.store.trajectories import read_trajectories

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
if os.isatty(0):
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first terminal a session opens is the one that rules it
from agentlightning import Trainer
from tests.trainer import isolated_agents as agents
from tests.trainer.worlds import loud_tasks
if __name__ == "__main__":
    Trainer(agents.{agent}, data_dir="data", output_dir="out", progress="plain", max_epochs=1, max_in_flight=4,
        num_workers=4, isolation={isolation!r}, timeout_seconds=100).train(loud_tasks(20))
"""
PLACES = [("parrot", "thread"), ("async_parrot", "thread"), ("parrot", "process"), ("async_parrot", "process")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        monkeypatch.setenv("MODEL_URL", running.base_url)
        yield running


def started(folder: Path, agent: str, isolation: str, **options: Any) -> subprocess.Popen[Any]:
    script = folder / "script.py"
    script.write_text(SCRIPT.format(root=str(ROOT), agent=agent, isolation=isolation))
    given: dict[str, Any] = {"stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, str(script)], cwd=folder, **given)


def slowly(body: dict[str, Any]) -> str:
    time.sleep(0.3)
    return shouting_model(body)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def statuses(folder: Path) -> Counter[str]:
    """Of the rollouts on record, and of the run (`run: …`)."""

    async def read() -> Counter[str]:
        store = open_store(folder / "data")
        found = Counter([trajectory.status async for trajectory in read_trajectories(store)])
        runs = [stored.record.body["status"] async for stored in store.read("run")]
        await store.close()
        return found + Counter({f"run: {runs[-1]}": 1})

    return asyncio.run(read())


def resumed(folder: Path, agent: str) -> TrainingResult:
    trainer = Trainer(
        getattr(agents, agent), data_dir=folder / "data", output_dir=folder / "out", progress=False, max_epochs=1
    )
    return trainer.train(loud_tasks(20), resume=True)


def children_of(pid: int) -> list[int]:
    """Also of those that lead a session of their own."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("agent", "isolation"), PLACES)
def test_one_ctrl_c_finishes_and_keeps_what_is_in_flight(
    server: FakeOpenAI, tmp_path: Path, agent: str, isolation: str
) -> None:
    server.reply(slowly)
    process = started(tmp_path, agent, isolation)
    until(lambda: len(server.requests) >= 8 and server.in_flight == 4)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode != 0 and "KeyboardInterrupt" in said
    assert "stopping: what is in flight is finished and saved. Ctrl-C again stops at once." in said
    num_paid = len(server.requests)
    assert num_paid <= 8 + 4 + 4, "it went on"
    assert statuses(tmp_path) == {"succeeded": num_paid, "run: stopped": 1}
    server.reply(shouting_model)
    result = resumed(tmp_path, agent)
    assert result.verdict == "improved"
    assert len(server.requests) == result.cost.calls


@pytest.mark.parametrize(("agent", "isolation"), PLACES)
def test_two_ctrl_c_stop_now_and_leave_no_process(
    server: FakeOpenAI, tmp_path: Path, agent: str, isolation: str
) -> None:
    server.next_reply(shouting_model, times=4)
    server.hang(1000, times=4)
    process = started(tmp_path, agent, isolation)
    until(lambda: len(server.requests) >= 8 and server.in_flight == 4)
    children = children_of(process.pid)
    assert len(children) >= (4 if isolation == "process" else 0)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # it waits for the four
        process.wait(timeout=1)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode != 0 and "stopped; what was done is kept." in said
    until(lambda: not any(is_running(child) for child in children))
    assert statuses(tmp_path)["run: stopped"] == 1 and statuses(tmp_path)["succeeded"] >= 4
    result = resumed(tmp_path, agent)
    assert result.verdict == "improved"
    cut_off = 4
    assert len(server.requests) == result.cost.calls + cut_off, (len(server.requests), result.cost)


def test_ctrl_c_at_a_terminal_does_not_reach_the_workers(server: FakeOpenAI, tmp_path: Path) -> None:
    """A terminal tells every process of the foreground group, so workers must not be in it."""
    server.reply(slowly)
    terminal, side = pty.openpty()
    with closing(os.fdopen(side, "r+b", buffering=0)) as given:
        process = started(
            tmp_path, "parrot", "process", stdin=given, stdout=given, stderr=given, start_new_session=True
        )
    until(lambda: len(server.requests) >= 8 and server.in_flight == 4)
    os.write(terminal, b"\x03")
    said = _read(terminal)
    assert process.wait(timeout=60) != 0
    assert "stopping: what is in flight is finished" in said
    assert statuses(tmp_path) == {"succeeded": len(server.requests), "run: stopped": 1}


def test_an_evaluation_is_interrupted_like_a_run(server: FakeOpenAI, tmp_path: Path) -> None:
    server.reply(slowly)
    text = SCRIPT.replace(".train(loud_tasks(20))", ".evaluate(loud_tasks(20))")
    (tmp_path / "script.py").write_text(text.format(root=str(ROOT), agent="parrot", isolation="thread"))
    process = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stderr=subprocess.PIPE)
    until(lambda: len(server.requests) >= 8 and server.in_flight == 4)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1].decode()
    assert statuses(tmp_path) == {"succeeded": len(server.requests), "run: stopped": 1}


def _read(terminal: int) -> str:
    """All that is said there, until nobody has it open any more."""
    pieces: list[bytes] = []
    try:
        while piece := os.read(terminal, 10_000):
            pieces.append(piece)
    except OSError:  # how Linux says so
        pass
    finally:
        os.close(terminal)
    return b"".join(pieces).decode()
