"""What happens to a store when its process ends without closing it, or forks. (Killed ones: tests/contract/store.)"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentlightning.data.record import make_record
from agentlightning.store import sqlite as sqlite_module
from agentlightning.store.open import open_store


def test_a_program_that_ends_without_closing_still_keeps_what_it_submitted(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from agentlightning.data.record import make_record\n"
        "from agentlightning.store.open import open_store\n"
        "store = open_store(sys.argv[1])\n"
        "for n in range(3000): store.submit([make_record('log', str(n), {})])\n"
        "print(open_store('memory:').address)\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stderr == ""
    assert not Path(run.stdout.strip()).exists(), "the temporary store was left behind"
    connection = sqlite3.connect(tmp_path / "store.sqlite3")
    assert connection.execute("SELECT count(*) FROM records").fetchone() == (3000,)
    connection.close()


def test_a_forked_child_is_told_to_open_its_own_and_leaves_its_parents_alone() -> None:
    program = (
        "import asyncio, os\n"
        "from agentlightning.data.record import make_record\n"
        "from agentlightning.store.open import open_store\n"
        "store = open_store('memory:')\n"
        "store.submit([make_record('log', 'a', {})]).result()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    print(store.submit([make_record('log', 'b', {})]).exception())\n"
        "    try:\n"
        "        store.watch()\n"
        "    except OSError as error:\n"
        "        print(error)\n"
        "else:\n"
        "    os.waitpid(child, 0)\n"
        "    print(store.submit([make_record('log', 'c', {})]).result())\n"
        "    asyncio.run(store.close())\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    lines = run.stdout.splitlines()
    assert [("was opened before this process was forked" in line) for line in lines] == [True, True, False]
    assert lines[2] == "2"


def test_an_open_store_that_nobody_holds_any_more_cleans_up_after_itself() -> None:
    store = open_store("memory:")
    folder = Path(store.address)
    store.submit([make_record("log", "a", {})]).result(timeout=10)
    assert (folder / "store.sqlite3").exists()
    del store
    assert not folder.exists()


def test_a_stores_own_writes_reach_its_watchers_without_waiting_for_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite_module, "WATCH_SECONDS", 3600)

    async def scenario() -> float:
        store = open_store("memory:")
        watching = store.watch()
        started = time.monotonic()
        for n in range(5):
            waiting = asyncio.ensure_future(anext(watching))
            await asyncio.sleep(0.02)
            await store.append([make_record("log", str(n), {})])
            async with asyncio.timeout(20):
                assert (await waiting).record.id == str(n)
        await store.close()
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 10
