"""Compaction of object segments: killed at any step of it, or read meanwhile, and nobody sees anything else than before
or after.
"""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentlightning.data.record import make_record
from agentlightning.store.base import Removal, Store
from agentlightning.store.open import open_store

OLD = {f"old-{n}" for n in range(6)}
NEW = {f"new-{n}" for n in range(6)}

# Dies at the n-th change of an object: before it, or behind it.
REMOVING = """
import asyncio, os, signal, sys
from agentlightning.store.base import Removal
from agentlightning.store.objects_place import Objects
from agentlightning.store.open import open_store

address, deadly, is_behind = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "behind"
num_changes = 0

def dying(change):
    def work(self, *arguments):
        global num_changes
        num_changes += 1
        if num_changes == deadly and not is_behind:
            os.kill(os.getpid(), signal.SIGKILL)
        done = change(self, *arguments)
        if num_changes == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return work

Objects.create, Objects.delete = dying(Objects.create), dying(Objects.delete)

async def main():
    store = open_store(address)
    await store.remove(Removal(["old"]))
    await store.close()

asyncio.run(main())
"""


async def fill(store: Store) -> None:
    """Segments with rows of one run, of both, and of the other."""
    rows = {
        run: [make_record("log", f"{run}-{n}", {"text": f"said by {run}"}, run=run) for n in range(6)]
        for run in ("old", "new")
    }
    old, new = rows["old"], rows["new"]
    for part in (old[:2], [*new[:2], *old[2:4], *new[2:4]], new[4:], old[4:]):
        await store.append(part)


async def ids(store: Store) -> set[str]:
    return {stored.record.id async for stored in store.read()}


def raw(folder: Path) -> bytes:
    return b"".join(gzip.decompress(path.read_bytes()) for path in folder.rglob("*.jsonl.gz"))


@pytest.mark.parametrize("when", ["before", "behind"])
def test_killed_at_any_step_a_removal_leaves_the_store_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    outcomes: list[bool] = []

    async def scenario(deadly: int) -> int:
        folder = tmp_path / f"{deadly}"
        address = f"segments:///{folder}"
        store = open_store(address)
        await fill(store)
        command = [sys.executable, "-c", REMOVING, address, str(deadly), when]
        code = (await asyncio.to_thread(subprocess.run, command)).returncode
        monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / f"cache {deadly}"))
        fresh = open_store(address)
        seen = await ids(fresh)
        assert seen in (OLD | NEW, NEW) and await ids(store) == seen
        assert await fresh.verify() == []
        outcomes.append(seen == NEW)
        await fresh.remove(Removal(["old"]))
        await fresh.vacuum()
        assert await ids(fresh) == await ids(store) == NEW
        assert b"said by old" not in raw(folder) and await fresh.verify() == []
        await fresh.close()
        await store.close()
        return code

    codes = [asyncio.run(scenario(deadly)) for deadly in range(1, 12)]
    assert codes[0] == -9 and codes[-1] == 0  # the last ones lived to the end
    assert sorted(outcomes) == outcomes and not outcomes[0] and outcomes[-1]


def test_readers_see_it_before_or_after_and_never_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, seen, is_over = f"segments:///{tmp_path / 'store'}", list[set[str]](), threading.Event()
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))

    async def read(number: int) -> None:
        while not is_over.is_set():
            monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / f"cache {number} {len(seen)}"))
            store = open_store(address)
            seen.append(await ids(store))
            assert await store.verify() == []
            await store.close()

    async def scenario() -> None:
        store = open_store(address)
        runs = [[make_record("log", f"{n}.{part}", {"n": n}, run=f"run-{n}") for part in range(2)] for n in range(30)]
        for batch in runs:
            await store.append([batch[0], *runs[0][1:], batch[1]])
        reader = asyncio.create_task(read(0))
        for number in range(1, 30):
            await store.remove(Removal([f"run-{number}"]))
            while len(seen) < number // 9:  # on a slow machine the reader would come too late
                await asyncio.sleep(0.001)
        is_over.set()
        await reader
        await store.close()

    asyncio.run(scenario())
    runs = [{id.split(".")[0] for id in found} for found in seen]
    assert len(seen) > 2 and all(
        {f"{n}.0", f"{n}.1"} <= found for found, run in zip(seen, runs, strict=True) for n in run
    )
    assert sorted(map(len, seen), reverse=True) == [len(found) for found in seen]


def test_two_compactions_at_once_only_find_less_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    address = f"segments:///{tmp_path / 'store'}"

    async def scenario() -> None:
        stores = [open_store(address) for _ in range(3)]
        await stores[0].append([make_record("log", f"{n}", {}, run=f"run-{n % 9}") for n in range(90)])
        for n in range(20):
            await stores[n % 3].append([make_record("log", f"more {n}", {}, run=f"run-{n % 9}")])
        await asyncio.gather(
            *(store.remove(Removal([f"run-{n}" for n in range(k, 9, 3)])) for k, store in enumerate(stores))
        )
        assert [await ids(store) for store in stores] == [set(), set(), set()]
        await stores[0].vacuum()
        assert b"more" not in raw(tmp_path / "store")
        for store in stores:
            assert await store.verify() == []
            await store.close()

    asyncio.run(scenario())
