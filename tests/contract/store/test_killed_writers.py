"""What every store promises when processes are killed in the middle of writing: what was acknowledged is there, once.

AGENTLIGHTNING_KILL_TRIALS=200 asks for the long run.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentlightning.store.base import Store
from agentlightning.store.open import open_store

TRIALS = int(os.environ.get("AGENTLIGHTNING_KILL_TRIALS", "2"))
NUM_WRITERS = 3

KILLING = """
import asyncio, json, os, random, select, signal, sys, time
from agentlightning.data.record import make_record
from agentlightning.store.open import open_store

address, num_trials, num_writers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

async def write(name, acknowledge):
    store = open_store(address)
    os.write(acknowledge, b"open\\n")
    async def lane(number):
        n = 0
        while True:
            ids = [f"{name}/{number}/{n}/{part}" for part in range(2)]
            await store.append([make_record("log", id, {"text": "x" * 700}) for id in ids])
            os.write(acknowledge, ("\\n".join(ids) + "\\n").encode())
            n += 1
    await asyncio.gather(lane(0), lane(1))

acknowledged, num_killed = [], 0
for trial in range(num_trials):
    parts, writing, deadlines = {}, {}, {}
    for number in range(num_writers):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            asyncio.run(write(f"{trial}/{number}", writer))
        os.close(writer)
        parts[reader], writing[reader] = b"", child
        if random.random() < 0.2:  # one in five dies while it opens the store
            deadlines[child] = time.monotonic() + random.uniform(0.0, 0.5)
    open_readers = list(parts)
    while open_readers:
        for child, deadline in list(deadlines.items()):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                num_killed += os.waitpid(child, 0)[1] == signal.SIGKILL
                del deadlines[child]
        for reader in select.select(open_readers, [], [], 0.01)[0]:
            chunk = os.read(reader, 65536)
            if not parts[reader] and chunk:
                deadlines.setdefault(writing[reader], time.monotonic() + random.uniform(0.0, 0.6))
            parts[reader] += chunk
            if not chunk:
                open_readers.remove(reader)
                os.close(reader)
    for part in parts.values():
        acknowledged += part.decode().rpartition("\\n")[0].splitlines()[1:]
print(json.dumps({"acknowledged": acknowledged, "num_killed": num_killed}))
"""


@pytest.mark.timeout(60 + 20 * TRIALS)
def test_nothing_acknowledged_is_lost_when_writers_are_killed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", KILLING, store.address, str(TRIALS), str(NUM_WRITERS)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    outcome = json.loads(run.stdout)

    async def everything(opened: Store) -> list[str]:
        return [stored.record.id async for stored in opened.read("log")]

    async def scenario() -> tuple[list[str], list[str]]:
        monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "another cache"))
        fresh = open_store(store.address)
        try:
            assert await fresh.verify() == []
            return await everything(store), await everything(fresh)
        finally:
            await fresh.close()

    kept, kept_by_fresh = asyncio.run(scenario())
    print(f"{len(outcome['acknowledged'])} acknowledged, {len(kept)} kept, {outcome['num_killed']} killed")
    assert outcome["num_killed"] == TRIALS * NUM_WRITERS
    assert len(outcome["acknowledged"]) > 10 * TRIALS
    assert set(outcome["acknowledged"]) <= set(kept)
    assert sorted(kept) == sorted(kept_by_fresh)
    assert len(set(kept)) == len(kept)
    halves = {id.rpartition("/")[0] for id in kept}
    assert len(kept) == 2 * len(halves), "an append was kept by half"
