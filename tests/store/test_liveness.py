"""A run whose process is gone is not taken for one that runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from agentlightning.data.record import make_record
from agentlightning.store.base import Store
from agentlightning.store.liveness import is_alive, status_of, this_process
from agentlightning.store.statistics import latest_runs

_MARK_AND_WAIT = (
    "import json, time; from agentlightning.store.liveness import this_process;"
    "print(json.dumps(this_process()), flush=True); time.sleep(600)"
)


def running(**process: object) -> dict[str, object]:
    return {"status": "running", "process": {**this_process(), **process}}


def test_a_run_of_this_process_runs_and_may_be_gone_on_with_here() -> None:
    assert status_of(running()) == "running"
    assert not is_alive(running())  # not another process


def test_a_run_is_interrupted_once_its_process_was_killed() -> None:
    child = subprocess.Popen([sys.executable, "-c", _MARK_AND_WAIT], stdout=subprocess.PIPE)
    assert child.stdout is not None
    run = {"status": "running", "process": json.loads(child.stdout.readline())}
    try:
        assert status_of(run) == "running"
        assert is_alive(run)
    finally:
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert status_of(run) == "interrupted", "dead, though nobody has collected it yet"
    child.communicate()
    assert status_of(run) == "interrupted"
    assert not is_alive(run)


def test_another_process_of_the_same_number_is_not_taken_for_it() -> None:
    assert status_of(running(began="1")) == "interrupted"


def test_a_run_from_before_the_last_boot_is_interrupted() -> None:
    assert status_of(running(boot="an earlier one", pid=1)) == "interrupted"


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"namespace": "pid:[1]"}])
def test_a_run_somewhere_else_is_taken_at_its_word(elsewhere: dict[str, str]) -> None:
    run = running(began="1", **elsewhere)
    assert status_of(run) == "running"
    assert not is_alive(run)


@pytest.mark.parametrize("status", ["finished", "failed", "stopped"])
def test_a_run_that_said_how_it_ended_ended_so(status: str) -> None:
    assert status_of({"status": status, "process": {"pid": 1, "began": "1"}}) == status


def test_a_record_without_a_mark_is_taken_at_its_word() -> None:
    assert status_of({"status": "running"}) == "running"
    assert status_of({}) == ""


def test_the_runs_of_a_store_are_listed_so(store: Store) -> None:
    async def scenario() -> None:
        await store.append([make_record("run", "run-1", running(began="1"), run="run-1")])
        assert (await latest_runs(store))["run-1"]["status"] == "interrupted"

    asyncio.run(scenario())
