"""What rollouts put on record, gathered over one turn of the event loop and written as one: their cost is shared.

Steps are handed over without waiting, and a write that failed is not lost: the next `check` raises it. A rollout's own
record is waited for.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from agentlightning.data.record import Record
from agentlightning.errors import DataError
from agentlightning.store.base import Cursor, Store
from agentlightning.trainer.inbox import Inbox


class Journal:
    """Of one run, on its event loop."""

    def __init__(self, store: Store, inbox: Inbox) -> None:
        self._store = store
        self._inbox = inbox
        self._page: _Page | None = None
        self._failure: BaseException | None = None
        self._repairs: set[asyncio.Task[None]] = set()

    def add(self, record: Record) -> None:
        """Write it soon."""
        self._open_page().records.append(record)

    async def keep(self, record: Record) -> None:
        """Write it, and wait until it is durable. DataError for a body that JSON cannot hold, StoreError when writing
        fails."""
        page = self._open_page()
        place = len(page.records)
        page.records.append(record)
        page.awaited.add(place)
        await page.written
        if place in page.errors:
            raise page.errors[place]

    def check(self) -> None:
        """Raise the first failure of a record that nobody waits for."""
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        """Hand what was gathered to the store."""
        page, self._page = self._page, None
        if page is not None:
            self._submit(page)

    def _open_page(self) -> _Page:
        if self._page is None:
            loop = asyncio.get_running_loop()
            self._page = _Page(loop.create_future())
            loop.call_soon(self.flush)
        return self._page

    def _submit(self, page: _Page) -> None:
        work = self._store.submit(page.records)
        work.add_done_callback(lambda _: self._inbox.call(self._written, page, work))

    def _written(self, page: _Page, work: Future[Cursor]) -> None:
        error = work.exception()
        if isinstance(error, DataError) and len(page.records) > 1:  # of one of them, and the store keeps all or none
            repair = asyncio.ensure_future(self._one_by_one(page))
            self._repairs.add(repair)
            repair.add_done_callback(self._repairs.discard)
            return
        if error is not None:
            page.errors = dict.fromkeys(range(len(page.records)), error)
        self._done(page)

    async def _one_by_one(self, page: _Page) -> None:
        for place, record in enumerate(page.records):
            try:
                await self._store.append([record])
            except Exception as error:  # noqa: BLE001 - raised where the record is waited for, or at the next check
                page.errors[place] = error
        self._done(page)

    def _done(self, page: _Page) -> None:
        for place in sorted(page.errors.keys() - page.awaited):
            self._failure = self._failure or page.errors[place]
        if not page.written.done():
            page.written.set_result(None)


class _Page:
    """Records on their way together."""

    def __init__(self, written: asyncio.Future[None]) -> None:
        self.written = written
        self.records: list[Record] = []
        self.awaited: set[int] = set()
        self.errors: dict[int, BaseException] = {}
