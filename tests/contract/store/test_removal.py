"""What every store promises about removing: it is gone for everybody, and nothing else is."""

from __future__ import annotations

import asyncio

from tests.store_servers import Place

from agentlightning.data.record import Record, make_record
from agentlightning.store.base import BlobRef, Removal, Store
from agentlightning.store.open import open_store


def records(run: str, count: int, *, text: str = "") -> list[Record]:
    return [make_record("log", f"{run}-{n}", {"n": n, "text": text}, run=run) for n in range(count)]


def live(rollout: str) -> list[Record]:
    step = make_record("step", f"{rollout}.0", {"text": "hi"}, rollout=rollout)
    return [step, make_record("rollout", rollout, {"split": "live"}, rollout=rollout)]


async def ids(store: Store, **query: object) -> list[str]:
    return [stored.record.id async for stored in store.read(**query)]  # pyright: ignore[reportArgumentType]


def test_what_is_removed_is_gone_and_nothing_else(store: Store) -> None:
    async def scenario() -> None:
        for run in ("a", "b", "c"):
            await store.append(records(run, 3))
        await store.append([*live("r-1"), *live("r-2"), make_record("rollout", "r-1", {}, run="c", rollout="r-1")])
        assert await store.remove(Removal(["a", "c-nothing"], ["r-1"])) == 5
        left = [*(f"{run}-{n}" for run in "bc" for n in range(3)), "r-2.0", "r-2", "r-1"]
        assert await ids(store) == left
        assert await ids(store, where={"run": "a"}) == []
        assert await ids(store, kind="rollout", where={"rollout": "r-1"}) == ["r-1"]
        assert await ids(store, newest_first=True, limit=2) == ["r-1", "r-2"]
        assert await store.verify() == []
        assert await store.remove(Removal(["a"])) == 0

    asyncio.run(scenario())


def test_a_store_opened_anew_and_one_that_was_open_agree(store: Store, place: Place) -> None:
    async def scenario() -> None:
        is_shared = place.address != "memory:"  # which nobody else can open
        other = open_store(place.address) if is_shared else store
        await store.append(records("a", 20))
        await other.append(records("b", 20))
        assert len(await ids(other)) == len(await ids(store)) == 40
        await store.remove(Removal(["a"]))
        assert await ids(other) == await ids(store) == [f"b-{n}" for n in range(20)]
        if not is_shared:
            return
        await other.close()
        fresh = open_store(place.address)
        assert await ids(fresh) == [f"b-{n}" for n in range(20)]
        assert await fresh.verify() == []
        await fresh.close()

    asyncio.run(scenario())


def test_cursors_outlive_a_removal(store: Store) -> None:
    async def scenario() -> None:
        first = await store.append([*records("a", 3), *records("b", 3)])
        within = [stored.cursor async for stored in store.read()][1]
        last = await store.append(records("a", 5))
        await store.remove(Removal(["a"]))
        assert await ids(store, since=within) == ["b-0", "b-1", "b-2"]
        assert await ids(store, since=first) == await ids(store, since=last) == []
        await store.append(records("c", 2))
        assert await ids(store, since=first) == await ids(store, since=last) == ["c-0", "c-1"]
        assert await ids(store, since=within) == ["b-0", "b-1", "b-2", "c-0", "c-1"]

    asyncio.run(scenario())


def test_a_run_that_is_carried_on_after_its_removal_keeps_what_it_writes_then(store: Store) -> None:
    async def scenario() -> None:
        await store.append(records("a", 3))
        await store.remove(Removal(["a"]))
        await store.append(records("a", 1))
        await store.vacuum()
        assert await ids(store) == ["a-0"]

    asyncio.run(scenario())


def test_a_watcher_goes_on_through_a_removal(store: Store) -> None:
    async def scenario() -> None:
        seen: list[str] = []

        async def follow() -> None:
            async for stored in store.watch(since=await store.append([])):
                seen.append(stored.record.id)
                if stored.record.id == "end":
                    return

        await store.append(records("old", 5))
        following = asyncio.create_task(follow())
        await asyncio.sleep(0.05)
        await store.append(records("a", 2))
        await store.remove(Removal(["old"]))
        await store.append([make_record("log", "end", {})])
        async with asyncio.timeout(20):
            await following
        assert seen == ["a-0", "a-1", "end"]

    asyncio.run(scenario())


def test_vacuum_gives_room_back_and_changes_nothing(store: Store, place: Place) -> None:
    async def scenario() -> None:
        text = "".join(f"{n:x}" for n in range(20_000))
        for number in range(20):
            await store.append(records("big", 2, text=f"{number}{text}"))
        await store.append(records("small", 3))
        full = await store.occupied()
        await store.remove(Removal(["big"]))
        await store.vacuum()
        if place.address.startswith("postgresql"):  # its tables keep the room for what comes
            await store.append([record for n in range(10) for record in records("again", 2, text=f"{n}{text}")])
            assert await store.occupied() <= full
            await store.remove(Removal(["again"]))
        else:
            assert await store.occupied() < full / 4
        assert await ids(store) == ["small-0", "small-1", "small-2"]

    asyncio.run(scenario())


def test_a_removed_blob_is_gone_and_may_come_again(store: Store) -> None:
    async def scenario() -> None:
        kept, ref = await store.put_blob(b"kept"), await store.put_blob([b"x" * 3_000_000])
        await store.remove_blob(ref)
        await store.remove_blob(ref)
        await store.remove_blob(BlobRef("0" * 64, 1))
        assert [found async for found in store.blobs()] == [kept]
        await store.put_blob([b"x" * 3_000_000])
        assert sum([len(chunk) async for chunk in store.get_blob(ref)]) == 3_000_000

    asyncio.run(scenario())
