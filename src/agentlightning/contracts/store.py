"""What every store must keep, tried at an address where nothing is yet.

The project's own suite (tests/contract/store) goes further: killed writers, many processes, power cuts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from agentlightning.contracts.broken import expect
from agentlightning.data.record import Record, make_record
from agentlightning.errors import StoreError
from agentlightning.store.base import BlobRef, Store, StoredRecord

_WAIT_SECONDS = 20.0


def check_store(open: Callable[[], Store]) -> None:
    """Raises ContractBroken unless the store that `open` opens (the same empty place each time) keeps these promises.

    Records come back as they were, in the order of their commits, by filter, and since any cursor exactly once; two
    openings see each other; a watcher hears what comes; blobs come back whole under their hash; a reopened store has
    everything; a closed one refuses.
    """
    asyncio.run(_check(open))


async def _check(open: Callable[[], Store]) -> None:
    store = open()
    try:
        expect([s async for s in store.read()] == [], "The place is empty at first.", "records were there already")
        await _check_records(store)
        await _check_cursors(store)
        await _check_watch(store, open)
        ref = await _check_blobs(store)
        before = await _all(store)
    finally:
        await store.close()
    await _check_closed(store)
    again = open()
    try:
        expect(
            await _all(again) == before, "What was written is there when opened again.", f"{len(before)} records before"
        )
        expect(await _bytes(again.get_blob(ref)) == b"one two", "A blob is there when opened again.", "something else")
        expect(await again.verify() == [], "A store that is well says so.", str(await again.verify()))
    finally:
        await again.close()


def _log(id: str, **body: Any) -> Record:
    return make_record("log", id, {"text": id, **body}, run="r", rollout="x" if body else "")


async def _all(store: Store, **query: Any) -> list[Record]:
    return [stored.record async for stored in store.read(**query)]


async def _check_records(store: Store) -> None:
    body = {"n": 1, "f": 0.1, "t": "ü ☃ \u0000 '\"", "l": [1, None, True], "m": {"a": {"b": "c"}}}
    records = [_log("a", **body), _log("b"), make_record("metric", "m", {"value": 1}, run="other")]
    await store.append(records)
    found = await _all(store)
    expect(found == records, "Records come back as they were written, in order.", f"{found!r:.300}")
    later = _log("a", n=2)
    await store.append([later])
    both = await _all(store, where={"id": "a"})
    expect(both == [records[0], later], "A record written again is kept beside the first.", f"{both!r:.300}")
    filters: list[tuple[dict[str, Any], list[str]]] = [
        ({"run": "other"}, ["m"]), ({"id": ["b", "m"]}, ["b", "m"]), ({"m.a.b": "c"}, ["a"]), ({"n": 2}, ["a"]),
        ({"run": "nobody"}, []), ({"n": "1"}, []),
    ]  # fmt: skip
    for where, ids in filters:
        given = [record.id for record in await _all(store, where=where)]
        expect(given == ids, f"The filter {where} keeps the records whose fields match.", f"{given}, expected {ids}")
    newest = [record.id for record in await _all(store, kind="log", newest_first=True, limit=2)]
    expect(newest == ["a", "b"], "newest_first and limit give the latest.", str(newest))


async def _check_cursors(store: Store) -> None:
    stored = [each async for each in store.read()]
    for number, each in enumerate(stored, start=1):
        rest = await _all(store, since=each.cursor)
        expect(rest == [s.record for s in stored[number:]], "A cursor splits the store into before and after.",
               f"after record {number} of {len(stored)}: {len(rest)} records")  # fmt: skip
    end = await store.append([_log("end")])
    expect(await _all(store, since=end) == [], "append gives the cursor after what it wrote.", "records after it")


async def _check_watch(store: Store, open: Callable[[], Store]) -> None:
    other = open()
    watching = store.watch("log", since=(await store.append([_log("before")])))
    try:
        heard = asyncio.ensure_future(_take(watching, 2))
        await store.append([_log("here")])
        await other.append([_log("there")])
        try:
            ids = await asyncio.wait_for(heard, _WAIT_SECONDS)
        except TimeoutError:
            ids = None
        expect(
            ids == ["here", "there"],
            "A watcher hears what comes, also from another opening.",
            f"{ids} in {_WAIT_SECONDS:g} s",
        )
    finally:
        close: Any = getattr(watching, "aclose", None)
        if close is not None:
            await close()
        await other.close()


async def _take(watching: AsyncIterator[StoredRecord], count: int) -> list[str]:
    ids: list[str] = []
    async for stored in watching:
        ids.append(stored.record.id)
        if len(ids) == count:
            break
    return ids


async def _check_blobs(store: Store) -> BlobRef:
    ref, same = await store.put_blob([b"one ", b"two"]), await store.put_blob(b"one two")
    expect(ref == same and ref.size == 7, "The same content is the same blob.", f"{ref} and {same}")
    expect(await _bytes(store.get_blob(ref)) == b"one two", "A blob comes back whole.", "something else")
    try:
        await _bytes(store.get_blob(BlobRef("0" * 64, 3)))
    except StoreError:
        return ref
    expect(False, "A blob that is not there is a StoreError.", "it was read")
    return ref


async def _bytes(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def _check_closed(store: Store) -> None:
    try:
        await store.append([_log("late")])
    except StoreError:
        return
    expect(False, "A closed store refuses, with a StoreError.", "append was taken")
