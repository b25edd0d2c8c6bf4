"""The default store: one SQLite file in WAL mode, its blobs in a folder beside it, and nothing to install.

Its cursor is the row's position. SQLite lets one writer in at a time, so positions follow the order of commits and a
cursor never skips a late one, whichever process wrote it.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import sqlite3
import threading
import weakref
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.record import RECORD_KINDS, Record
from agentlightning.errors import DataError, StoreError
from agentlightning.store.base import BlobRef, Cursor, StoredRecord, Where
from agentlightning.store.blobs import BlobFolder
from agentlightning.store.group_commit import GroupCommit, Row, closed, forked
from agentlightning.store.sqlite_file import Durability, connect, explained, open_file
from agentlightning.store.sqlite_query import Query, parse_cursor

WATCH_SECONDS = 0.2
"""How often a watcher looks whether another process (or store object) has written. What this store object writes is
signalled at once."""

FILE_NAME = "store.sqlite3"
PAGE_ROWS = 500
PAGE_BYTES = 4 << 20
"""A page of a read ends at whichever comes first, so that long bodies do not fill the memory."""


class SQLiteStore:
    """`Store` over one file. Any number of threads, event loops and processes may use the same file at once."""

    def __init__(self, address: str | Path, *, durability: Durability = "process", is_temporary: bool = False) -> None:
        """Open `./folder` or `sqlite:///file`, making it when missing. `is_temporary`: remove the folder on close.

        Raises StoreError when the place cannot be written, holds something else, or comes from a newer release.
        """
        self._path = file_of(address)
        self.address = str(self._path.parent) if self._path.name == FILE_NAME else f"sqlite:///{self._path}"
        connection = open_file(self._path, durability)
        self._blobs = BlobFolder(self._path.parent / "blobs")
        self._bell = _Bell()
        self._readers = _Readers(self._path)
        self._writer = GroupCommit(connection, self._path, self._bell.ring)
        folder = self._path.parent if is_temporary else None
        self._release = weakref.finalize(self, _release, self._writer, self._readers, folder, os.getpid())

    def submit(self, records: Sequence[Record]) -> Future[Cursor]:
        """Append from any thread without waiting. What is wrong with a record or the store comes through the future."""
        try:
            rows = [_row(record) for record in records]
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
        query = Query(kind, where, newest_first=newest_first)
        after, until = parse_cursor(since), await asyncio.to_thread(self._last)
        num_left = until if limit is None else limit
        num_asked = 100  # a first page comes quickly, the others in bulk
        while num_left > 0 and after < until:
            sql, values = query.page(after, until, min(num_left, num_asked))
            page, is_end = await asyncio.to_thread(self._page, sql, values, min(num_left, num_asked))
            for stored in page:
                yield stored
            if is_end:
                return
            num_left, num_asked = num_left - len(page), PAGE_ROWS
            if newest_first:
                until = int(page[-1].cursor) - 1
            else:
                after = int(page[-1].cursor)

    def watch(
        self, kind: str | Sequence[str] | None = None, *, since: Cursor | None = None
    ) -> AsyncGenerator[StoredRecord]:
        """Everything since the cursor (None: since this call), then what any process appends, until the store closes.

        Rows of this store object arrive at once; another process's are looked for every WATCH_SECONDS.
        """
        Query(kind, None)  # refuse a wrong kind here, not at the first record
        return self._watch(kind, Cursor(str(self._last())) if since is None else since)

    async def _watch(self, kind: str | Sequence[str] | None, since: Cursor) -> AsyncGenerator[StoredRecord]:
        seen: int | None = None
        with self._bell.heard() as rung:
            while True:
                rung.clear()
                try:
                    # Asked before reading: after a commit in between, the next round reads once more for nothing.
                    version = await asyncio.to_thread(self._readers.data_version)
                    if version != seen:
                        seen = version
                        async for stored in self.read(kind, since=since):
                            since = stored.cursor
                            yield stored
                except StoreError:
                    if self._readers.is_closed:
                        return
                    raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_SECONDS):
                        await rung.wait()

    async def put_blob(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep bytes under their hash, durable when this returns; the iterable is consumed in a thread."""
        self._readers.check()
        return await asyncio.to_thread(self._blobs.put, chunks)

    async def get_blob(self, ref: BlobRef) -> AsyncGenerator[bytes]:
        """The bytes in chunks of 1 MiB; the last one comes only if the whole has the right hash, else StoreError."""
        self._readers.check()
        chunks = self._blobs.read(ref)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk

    async def close(self) -> None:
        """Write what was submitted, end the watchers, release the file. Closing again does nothing."""
        await asyncio.to_thread(self._release)
        self._bell.ring()

    def _last(self) -> int:
        with self._readers.connection() as connection:
            return connection.execute("SELECT coalesce(max(position), 0) FROM records").fetchone()[0]

    def _page(self, sql: str, values: list[Any], num_asked: int) -> tuple[list[StoredRecord], bool]:
        """The rows of one page, and whether it is the last one."""
        page: list[StoredRecord] = []
        num_bytes = 0
        with self._readers.connection() as connection, closing(connection.execute(sql, values)) as rows:
            for row in rows:
                page.append(_stored(row, self._path))
                num_bytes += len(row[-1])
                if num_bytes > PAGE_BYTES:
                    return page, False
        return page, len(page) < num_asked


def file_of(address: str | Path) -> Path:
    """The database file an address means. `sqlite:///x` is relative, `sqlite:////x` absolute, a path is a folder."""
    text = str(address)
    if text.startswith("sqlite://"):
        name = text.removeprefix("sqlite://").removeprefix("/")
        if not name:
            raise StoreError(f"{text!r} names no file. Write sqlite:///runs.sqlite3, or a folder such as ./runs.")
        return Path(name).expanduser().resolve()
    return Path(text).expanduser().resolve() / FILE_NAME


class _Readers:
    """Connections for reading, lent to one thread at a time; a few idle ones are kept."""

    def __init__(self, path: Path) -> None:
        self.is_closed = False
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._watching: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def check(self) -> None:
        if self.is_closed:
            raise closed(self._path)
        if os.getpid() != self._process:
            raise forked(self._path)

    @contextmanager
    def connection(self) -> Generator[sqlite3.Connection]:
        with explained(self._path, "read"):
            connection = self._take()
            try:
                yield connection
            finally:
                self._give_back(connection)

    def data_version(self) -> int:
        """A number that changes whenever anybody commits. It means something on one connection only, kept for this."""
        with explained(self._path, "read"), self._lock:
            self.check()
            self._watching = self._watching or connect(self._path, "process")
            return self._watching.execute("PRAGMA data_version").fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            for connection in [*self._idle, *([self._watching] if self._watching else [])]:
                connection.close()
            self._idle.clear()
            self._watching = None

    def _take(self) -> sqlite3.Connection:
        self.check()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = connect(self._path, "process")
        connection.execute("PRAGMA query_only = ON")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self.is_closed and len(self._idle) < 4:
                self._idle.append(connection)
                return
        connection.close()


class _Bell:
    """Wakes watchers in whichever event loops they run; rung from the writer's thread."""

    def __init__(self) -> None:
        self._ears: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    @contextmanager
    def heard(self) -> Generator[asyncio.Event]:
        """An event that is set at every ring while the block runs."""
        event = asyncio.Event()
        with self._lock:
            self._ears[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            with self._lock:
                del self._ears[event]

    def ring(self) -> None:
        with self._lock:
            for event, loop in self._ears.items():
                with suppress(RuntimeError):  # a loop that was closed with its watcher unfinished hears nothing
                    loop.call_soon_threadsafe(event.set)


def _release(writer: GroupCommit, readers: _Readers, temporary: Path | None, process: int) -> None:
    """Runs at close, at garbage collection or at exit, whichever is first; in a forked child it leaves all as it is."""
    if os.getpid() != process:
        return
    writer.close()
    readers.close()
    if temporary:
        shutil.rmtree(temporary, ignore_errors=True)


def _row(record: Record) -> Row:
    """The columns of a record. The body becomes text here and now: it may change once the caller goes on."""
    if record.kind not in RECORD_KINDS:
        raise DataError(f"unknown record kind {record.kind!r}. Known: {', '.join(RECORD_KINDS)}.")
    try:
        body = msgspec.json.encode(record.body)
        for text in (record.id, record.run, record.rollout):
            text.encode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{record.kind} {record.id!r} cannot be stored as JSON: {error}. "
            "Give strings, numbers, booleans, null, lists and mappings only."
        ) from error
    if b"null" in body and (place := _non_finite(record.body, "body")):
        raise DataError(f"{record.kind} {record.id!r}: {place} is not a finite number, and JSON has no word for that.")
    return record.kind, record.id, record.run, record.rollout, record.time, record.version, body.decode()


def _non_finite(value: Any, place: str) -> str | None:
    """Where a NaN or infinity stands, which would silently become null."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        items = ((f"{place}.{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next((found for where, item in items if (found := _non_finite(item, where))), None)


def _stored(row: tuple[Any, ...], path: Path) -> StoredRecord:
    position, kind, id, run, rollout, time, version, body = row
    try:
        content = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"store {path}: record {position} ({kind} {id!r}) is damaged: {error}. "
            "Keep a copy of the file, and import your last JSONL export into a new store."
        ) from error
    record = Record(kind=kind, id=id, run=run, rollout=rollout, time=time, version=version, body=content)
    return StoredRecord(record, Cursor(str(position)))
