"""What all stores share: an async face over a blocking back end, one writing thread, reads in pages, a bell.

A back end only says how rows are written, found and numbered. Positions follow the order of commits as this back end
sees them; cursors are its own words for them.
"""

from __future__ import annotations

import asyncio
import math
import os
import weakref
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, TypeVar

from agentlightning.data.record import Record
from agentlightning.errors import DataError, StoreError
from agentlightning.store.base import BlobRef, Cursor, Removal, StoredRecord, Where
from agentlightning.store.bell import Bell
from agentlightning.store.group_commit import GroupCommit
from agentlightning.store.rows import Row

T = TypeVar("T")

FIRST_PAGE_ROWS = 100
"""A first page comes quickly, the others in bulk."""
PAGE_ROWS = 500
PAGE_BYTES = 4 << 20
"""A page of a read ends at whichever comes first, so that long bodies do not fill the memory."""


class Page(NamedTuple):
    """Records with their positions, in the order asked for, and whether there are no more after them."""

    found: list[tuple[int, StoredRecord]]
    is_last: bool


class Blobs(Protocol):
    """Where bytes are kept under their hash. Blocking."""

    def put(self, chunks: bytes | Iterable[bytes]) -> BlobRef: ...
    def read(self, ref: BlobRef) -> Generator[bytes]: ...
    def all(self) -> Generator[BlobRef]: ...
    def remove(self, ref: BlobRef) -> None: ...


class Backend(Protocol):
    """What differs between stores. Blocking, and called from several threads at once, but for `commit`."""

    place: str
    """What messages call it; holds no secret."""
    watch_seconds: float
    """How often a watcher looks for what the bell cannot tell."""

    @property
    def blobs(self) -> Blobs: ...

    def row(self, record: Record) -> Row:
        """The columns of a record; DataError when it cannot be kept."""
        ...

    def commit(self, groups: Sequence[Sequence[Row]]) -> Sequence[Cursor | Exception]:
        """Write the groups durably, each all or none. Called from one thread."""
        ...

    def query(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool) -> Any:
        """A filter, checked (ConfigError) and ready for `page`."""
        ...

    def ranges(self, since: Cursor | None) -> list[tuple[int, int]]:
        """What is after the cursor now, as ascending ranges of positions (after, until]."""
        ...

    def page(self, query: Any, since: Cursor | None, after: int, until: int, limit: int) -> Page:
        """The first records that match in one of the ranges `since` the cursor."""
        ...

    def last(self) -> Cursor:
        """The cursor behind everything there is."""
        ...

    def pulse(self) -> object:
        """Something that differs from what it was whenever anybody has committed in between."""
        ...

    def listen(self, bell: Bell) -> None:
        """Ring the bell from now on when another process writes, if there is a way to know. May be called again."""
        ...

    def verify(self) -> list[str]:
        """What is wrong with the place itself, one sentence each."""
        ...

    def remove(self, removal: Removal) -> int:
        """Take records away, and say how many. A process killed meanwhile leaves less to do for the next call."""
        ...

    def vacuum(self) -> None:
        """Give back the room of what was removed."""
        ...

    def occupied(self) -> int:
        """Bytes of records and blobs as they lie there."""
        ...

    def check(self) -> None:
        """StoreError when closed, or carried into a forked process."""
        ...

    def close(self) -> None: ...


class PagedStore:
    """`Store` over a back end. Any number of threads, event loops and processes may use one address at once."""

    def __init__(self, address: str, backend: Backend) -> None:
        self.address = address
        self._backend = backend
        self._bell = Bell()
        self._writer = GroupCommit(backend.commit, backend.place, self._bell.ring)
        self._release = weakref.finalize(self, _release, self._writer, backend, os.getpid())

    def submit(self, records: Sequence[Record]) -> Future[Cursor]:
        """Append from any thread without waiting. What is wrong with a record or the store comes through the future."""
        try:
            rows = [self._backend.row(record) for record in records]
        except DataError as error:
            failed: Future[Cursor] = Future()
            failed.set_exception(error)
            return failed
        return self._writer.submit(rows)

    async def append(self, records: Sequence[Record]) -> Cursor:
        """Append and wait until durable. DataError for a body that JSON cannot hold, StoreError when writing fails."""
        return await asyncio.wrap_future(self.submit(records))

    async def read(
        self,
        kind: str | Sequence[str] | None = None,
        where: Where | None = None,
        *,
        since: Cursor | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncGenerator[StoredRecord]:
        """Records in commit order (or newest first), as they were when reading began; pages are read in a thread."""
        query = self._backend.query(kind, where, newest_first=newest_first)
        ranges = await asyncio.to_thread(self._backend.ranges, since)
        num_left, num_asked = math.inf if limit is None else limit, FIRST_PAGE_ROWS
        for after, until in reversed(ranges) if newest_first else ranges:
            while num_left > 0 and after < until:
                asked = int(min(num_left, num_asked))
                page = await asyncio.to_thread(self._backend.page, query, since, after, until, asked)
                for _, stored in page.found:
                    yield stored
                num_left, num_asked = num_left - len(page.found), PAGE_ROWS
                if page.is_last:
                    break
                if newest_first:
                    until = page.found[-1][0] - 1
                else:
                    after = page.found[-1][0]

    def watch(
        self, kind: str | Sequence[str] | None = None, *, since: Cursor | None = None
    ) -> AsyncGenerator[StoredRecord]:
        """Everything since the cursor (None: since this call), then what any process appends, until the store closes.

        Rows of this store object arrive at once; how soon another process's do is the back end's affair.
        """
        self._backend.query(kind, None, newest_first=False)  # refuse a wrong kind here, not at the first record
        return self._watch(kind, self._backend.last() if since is None else since)

    async def _watch(self, kind: str | Sequence[str] | None, since: Cursor) -> AsyncGenerator[StoredRecord]:
        seen: object = None
        with self._bell.heard() as rung:
            while True:
                rung.clear()
                try:
                    await asyncio.to_thread(self._backend.listen, self._bell)
                    # Asked before reading: after a commit in between, the next round reads once more for nothing.
                    pulse = await asyncio.to_thread(self._backend.pulse)
                    if pulse != seen:
                        seen = pulse
                        async for stored in self.read(kind, since=since):
                            since = stored.cursor
                            yield stored
                except StoreError:
                    if not self._release.alive:  # closed meanwhile
                        return
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._backend.watch_seconds):
                        await rung.wait()

    async def put_blob(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep bytes under their hash, durable when this returns; the iterable is consumed in a thread."""
        self._backend.check()
        return await asyncio.to_thread(self._backend.blobs.put, chunks)

    def get_blob(self, ref: BlobRef) -> AsyncGenerator[bytes]:
        """The bytes in chunks; the last one comes only if the whole has the right hash, else StoreError."""
        return self._drawn(lambda: self._backend.blobs.read(ref))

    def blobs(self) -> AsyncGenerator[BlobRef]:
        """Every blob the store keeps, in no certain order."""
        return self._drawn(self._backend.blobs.all)

    async def verify(self) -> list[str]:
        """What is wrong with the place that keeps the records, one sentence each; empty when all is well."""
        self._backend.check()
        return await asyncio.to_thread(self._backend.verify)

    async def remove(self, removal: Removal) -> int:
        """Take records away for every reader, and say how many there were."""
        self._backend.check()
        return await asyncio.to_thread(self._backend.remove, removal)

    async def remove_blob(self, ref: BlobRef) -> None:
        """Take a blob away; nothing happens when it is not there."""
        self._backend.check()
        await asyncio.to_thread(self._backend.blobs.remove, ref)

    async def vacuum(self) -> None:
        """Give back the room of what was removed, and clear away what killed processes left."""
        self._backend.check()
        await asyncio.to_thread(self._backend.vacuum)

    async def occupied(self) -> int:
        """Bytes that the place takes up now, blobs included."""
        self._backend.check()
        return await asyncio.to_thread(self._backend.occupied)

    async def close(self) -> None:
        """Write what was submitted, end the watchers, release the place. Closing again does nothing."""
        await asyncio.to_thread(self._release)
        self._bell.ring()

    async def _drawn(self, start: Callable[[], Generator[T]]) -> AsyncGenerator[T]:
        """The items of a blocking generator, each drawn in a thread."""
        self._backend.check()
        items = start()
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item


def _release(writer: GroupCommit, backend: Backend, process: int) -> None:
    """Runs at close, at garbage collection or at exit, whichever is first; in a forked child it leaves all as it is."""
    if os.getpid() == process:
        writer.close()
        backend.close()
