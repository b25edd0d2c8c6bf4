"""Records of one turn of the loop are written together, and what is wrong with one of them is nobody else's affair."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import pytest

from agentlightning.data.record import Record, make_record
from agentlightning.errors import DataError, StoreError
from agentlightning.store.base import Cursor
from agentlightning.store.sqlite import SQLiteStore
from agentlightning.trainer.inbox import Inbox
from agentlightning.trainer.journal import Journal


class Watched(SQLiteStore):
    """A store that remembers how many records each append had."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sizes: list[int] = []

    def submit(self, records: Sequence[Record]) -> Future[Cursor]:
        self.sizes.append(len(records))
        return super().submit(records)


def log(name: str, value: float = 1.0) -> Record:
    return make_record("log", name, {"value": value, "nothing": None})


async def stored(store: SQLiteStore) -> list[str]:
    return [found.record.id async for found in store.read("log")]


def test_records_of_one_turn_are_one_append_in_their_order(tmp_path: Path) -> None:
    async def main() -> tuple[list[int], list[str]]:
        store = Watched(tmp_path)
        journal = Journal(store, Inbox(asyncio.get_running_loop()))

        async def first() -> None:
            journal.add(log("a"))

        await asyncio.gather(first(), journal.keep(log("b")), journal.keep(log("c")))
        found = await stored(store)
        await store.close()
        return store.sizes, found

    assert asyncio.run(main()) == ([3], ["a", "b", "c"])


def test_a_record_that_cannot_be_kept_takes_no_other_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path)
        journal = Journal(store, Inbox(asyncio.get_running_loop()))
        kept = await asyncio.gather(
            journal.keep(log("good")), journal.keep(log("bad", math.nan)), journal.keep(log("too")),
            return_exceptions=True,
        )  # fmt: skip
        assert [type(outcome) for outcome in kept] == [type(None), DataError, type(None)]
        journal.check()  # whoever kept it was told
        journal.add(log("unseen", math.inf))
        await journal.keep(log("last"))
        with pytest.raises(DataError, match="unseen"):
            journal.check()
        assert await stored(store) == ["good", "too", "last"]
        await store.close()

    asyncio.run(main())


def test_a_store_that_fails_is_heard_of(tmp_path: Path) -> None:
    async def main() -> None:
        store = SQLiteStore(tmp_path)
        journal = Journal(store, Inbox(asyncio.get_running_loop()))
        await store.close()
        journal.add(log("a"))
        with pytest.raises(StoreError, match="closed"):
            await journal.keep(log("b"))
        with pytest.raises(StoreError, match="closed"):
            journal.check()

    asyncio.run(main())


def test_what_was_gathered_is_handed_over_at_the_end(tmp_path: Path) -> None:
    async def main() -> list[str]:
        store = SQLiteStore(tmp_path)
        journal = Journal(store, Inbox(asyncio.get_running_loop()))
        journal.add(log("a"))
        journal.flush()
        await store.close()
        again = SQLiteStore(tmp_path)
        found = await stored(again)
        await again.close()
        return found

    assert asyncio.run(main()) == ["a"]


def test_a_patient_inbox_hears_of_many_calls_at_once() -> None:
    async def main(patience: float) -> list[tuple[int, float]]:
        heard: list[tuple[int, float]] = []
        inbox = Inbox(asyncio.get_running_loop(), lambda: patience)

        def tell() -> None:
            for index in range(5):
                inbox.call(lambda index=index: heard.append((index, time.perf_counter())))
                time.sleep(0.02)

        teller = threading.Thread(target=tell)
        teller.start()
        while len(heard) < 5:
            await asyncio.sleep(0.01)
        teller.join()
        return heard

    for patience, gap in ((0.0, True), (1.0, False)):
        heard = asyncio.run(main(patience))
        assert [index for index, _ in heard] == list(range(5))
        assert (heard[-1][1] - heard[0][1] > 0.05) == gap


def test_what_raises_in_a_call_is_told_and_stops_no_other() -> None:
    async def main() -> tuple[list[str], list[str]]:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        done: asyncio.Future[None] = loop.create_future()
        inbox, heard = Inbox(loop), list[str]()

        def fail() -> None:
            raise ValueError("no")

        inbox.call(fail)
        inbox.call(heard.append, "after")
        inbox.call(done.set_result, None)
        await done
        return told, heard

    assert asyncio.run(main()) == (["no"], ["after"])
