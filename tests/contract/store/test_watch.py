"""What every store promises about its tail: nothing is missed, whoever wrote it, and closing ends it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from agentlightning.data.record import Record, make_record
from agentlightning.store.base import Store, StoredRecord
from agentlightning.store.open import open_store

ANOTHER_PROCESS = """
import asyncio, sys
from agentlightning.data.record import make_record
from agentlightning.store.open import open_store

async def main(address, num_records):
    store = open_store(address)
    for n in range(num_records):
        await store.append([make_record("log", f"other {n}", {})])
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


FORKING = """
import asyncio, os, sys
from agentlightning.data.record import make_record
from agentlightning.store.open import open_store

store = open_store(sys.argv[1])
store.submit([make_record("log", "a", {})]).result(timeout=20)
child = os.fork()
if child == 0:
    print(store.submit([make_record("log", "b", {})]).exception(), flush=True)
    try:
        store.watch()
    except OSError as error:
        print(error, flush=True)
else:
    os.waitpid(child, 0)
    store.submit([make_record("log", "c", {})]).result(timeout=20)
    asyncio.run(store.close())
"""


def log(id: str) -> Record:
    return make_record("log", id, {})


async def take(watching: AsyncIterator[StoredRecord], number: int) -> list[str]:
    async with asyncio.timeout(20):
        return [(await anext(watching)).record.id for _ in range(number)]


def test_watching_from_now_on_gives_what_comes_after_the_call(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log("old")])
        watching = store.watch()
        await store.append([log("a"), log("b")])
        assert await take(watching, 2) == ["a", "b"]
        waiting = asyncio.create_task(take(watching, 1))
        await asyncio.sleep(0.05)
        await store.append([log("c")])
        assert await waiting == ["c"]

    asyncio.run(scenario())


def test_watching_since_a_cursor_gives_the_past_then_the_present(store: Store) -> None:
    async def scenario() -> None:
        start = await store.append([log("old")])
        await store.append([log("a"), make_record("metric", "m", {}), log("b")])
        everything, logs = store.watch(since=start), store.watch(["log", "control"], since=start)
        assert await take(everything, 3) == ["a", "m", "b"]
        assert await take(logs, 2) == ["a", "b"]
        await store.append([make_record("control", "pause", {})])
        assert await take(everything, 1) == await take(logs, 1) == ["pause"]

    asyncio.run(scenario())


def test_watchers_in_other_event_loops_hear_everything(store: Store) -> None:
    async def follow(number: int) -> list[str]:
        return await take(store.watch(since=start), number)

    async def write() -> None:
        for n in range(50):
            await store.append([log(str(n))])

    start = store.submit([log("start")]).result(timeout=10)

    async def scenario() -> None:
        followers = [asyncio.to_thread(lambda: asyncio.run(follow(50))) for _ in range(3)]
        *heard, _ = await asyncio.gather(*followers, write())
        assert heard == [[str(n) for n in range(50)]] * 3

    asyncio.run(scenario())


def test_what_a_second_process_writes_reaches_a_watcher_in_the_first(store: Store) -> None:
    async def scenario() -> None:
        watching = store.watch("log")
        process = subprocess.Popen([sys.executable, "-c", ANOTHER_PROCESS, store.address, "25"])
        try:
            assert await take(watching, 25) == [f"other {n}" for n in range(25)]
        finally:
            assert await asyncio.to_thread(process.wait, 20) == 0
        await store.append([log("mine")])
        assert await take(watching, 1) == ["mine"]

    asyncio.run(scenario())


def test_two_processes_writing_at_once_lose_nothing(store: Store) -> None:
    async def scenario() -> None:
        watching = store.watch("log")
        process = subprocess.Popen([sys.executable, "-c", ANOTHER_PROCESS, store.address, "100"])
        try:
            mine = 0
            while process.poll() is None:
                await store.append([log(f"mine {mine}")])
                mine += 1
        finally:
            assert await asyncio.to_thread(process.wait, 20) == 0
        stored = [stored.record.id async for stored in store.read("log")]
        assert [id for id in stored if id.startswith("other")] == [f"other {n}" for n in range(100)]
        assert [id for id in stored if id.startswith("mine")] == [f"mine {n}" for n in range(mine)]
        assert await take(watching, len(stored)) == stored

    asyncio.run(scenario())


def test_closing_the_store_ends_a_watch(store: Store) -> None:
    async def follow() -> list[str]:
        return [stored.record.id async for stored in watching]

    async def scenario() -> Any:
        following = asyncio.create_task(follow())
        await store.append([log("a")])
        await asyncio.sleep(0.05)
        await store.close()
        async with asyncio.timeout(10):
            return await following

    watching = store.watch()
    assert asyncio.run(scenario()) == ["a"]


def test_another_opening_of_the_store_is_heard_too(store: Store) -> None:
    async def scenario() -> None:
        watching = store.watch()
        other = open_store(store.address)
        try:
            await other.append([log("a")])
            assert await take(watching, 1) == ["a"]
        finally:
            await other.close()

    asyncio.run(scenario())


def test_a_forked_child_is_told_to_open_its_own_and_leaves_its_parents_alone(store: Store) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, store.address]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert run.stdout.count("was opened before this process was forked") == 2

    async def scenario() -> None:
        assert [stored.record.id async for stored in store.read("log")] == ["a", "c"]

    asyncio.run(scenario())
