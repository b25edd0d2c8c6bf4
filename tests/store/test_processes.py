"""What happens to a store when its process is killed, ends without closing it, or forks."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentlightning.data.record import make_record
from agentlightning.store import sqlite as sqlite_module
from agentlightning.store.open import open_store

KILLING = """
import asyncio, json, os, random, select, signal, sys, time
from agentlightning.data.record import make_record
from agentlightning.store.open import open_store

TRIALS, WRITERS = 12, 3

async def write(address, name, acknowledge):
    store = open_store(address)
    async def one(lane):
        n = 0
        while True:
            ids = [f"{name}/{lane}/{n}/{part}" for part in range(2)]
            await store.append([make_record("log", id, {"text": "x" * 700}) for id in ids])
            os.write(acknowledge, ("\\n".join(ids) + "\\n").encode())
            n += 1
    await asyncio.gather(one(0), one(1))

acknowledged, num_killed = [], 0
for trial in range(TRIALS):
    readers, children = [], []
    for number in range(WRITERS):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            asyncio.run(write(sys.argv[1], f"{trial}/{number}", writer))
        os.close(writer)
        readers.append(reader)
        children.append(child)
    deadlines = {child: time.monotonic() + random.uniform(0.02, 0.35) for child in children}
    parts = {reader: b"" for reader in readers}
    while readers:
        for child, deadline in list(deadlines.items()):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                num_killed += os.waitpid(child, 0)[1] == signal.SIGKILL
                del deadlines[child]
        for reader in select.select(readers, [], [], 0.01)[0]:
            chunk = os.read(reader, 65536)
            parts[reader] += chunk
            if not chunk:
                readers.remove(reader)
                os.close(reader)
    for part in parts.values():
        acknowledged += part.decode().rpartition("\\n")[0].splitlines()
print(json.dumps({"acknowledged": acknowledged, "num_killed": num_killed}))
"""


def test_nothing_acknowledged_is_lost_when_writers_are_killed(tmp_path: Path) -> None:
    address = str(tmp_path / "runs")
    run = subprocess.run(
        [sys.executable, "-c", KILLING, address], capture_output=True, text=True, timeout=100, check=True
    )
    outcome = json.loads(run.stdout)
    connection = sqlite3.connect(Path(address) / "store.sqlite3")
    kept = [id for (id,) in connection.execute("SELECT id FROM records ORDER BY position")]
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    assert outcome["num_killed"] == 36
    assert len(outcome["acknowledged"]) > 100
    assert set(outcome["acknowledged"]) <= set(kept)
    assert len(set(kept)) == len(kept)
    halves = {id.rpartition("/")[0] for id in kept}
    assert len(kept) == 2 * len(halves), "an append was kept by half"


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
