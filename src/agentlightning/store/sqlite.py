"""The default store: one SQLite file in WAL mode, its blobs in a folder beside it, and nothing to install.

Its cursor is the row's position. SQLite lets one writer in at a time, so positions follow the order of commits and a
cursor never skips a late one, whichever process wrote it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agentlightning.errors import StoreError
from agentlightning.store.base import Cursor, Removal, Where
from agentlightning.store.bell import Bell
from agentlightning.store.blobs import BlobFolder
from agentlightning.store.group_commit import closed, forked
from agentlightning.store.paged import PAGE_BYTES, Page, PagedStore
from agentlightning.store.rows import Row, row_of, stored_of
from agentlightning.store.sqlite_file import Durability, connect, explained, open_file
from agentlightning.store.sqlite_query import Query, parse_cursor
from agentlightning.store.sqlite_removal import remove_rows, vacuum_file

WATCH_SECONDS = 0.2
"""How often a watcher looks whether another process (or store object) has written. What this store object writes is
signalled at once."""

FILE_NAME = "store.sqlite3"

_INSERT = "INSERT INTO records (kind, id, run, rollout, time, version, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
ROWS_A_STATEMENT = 64
"""Written at once: with every statement the interpreter lock is let go, and waiting for it costs more than a row."""
_INSERTS = [_INSERT + ", (?, ?, ?, ?, ?, ?, ?)" * (number - 1) for number in range(ROWS_A_STATEMENT + 1)]
"""By the number of rows. The connection keeps them prepared."""
_LAST = "SELECT coalesce(max(position), 0) FROM records"


class SQLiteStore(PagedStore):
    """`Store` over one file. Any number of threads, event loops and processes may use the same file at once."""

    def __init__(self, address: str | Path, *, durability: Durability = "process", is_temporary: bool = False) -> None:
        """Open `./folder` or `sqlite:///file`, making it when missing. `is_temporary`: remove the folder on close.

        Raises StoreError when the place cannot be written, holds something else, or comes from a newer release.
        """
        path = file_of(address)
        address = str(path.parent) if path.name == FILE_NAME else f"sqlite:///{path}"
        super().__init__(address, SQLiteBackend(path, durability, is_temporary=is_temporary))


class SQLiteBackend:
    """One file, its writing connection, and a few for reading."""

    def __init__(self, path: Path, durability: Durability, *, is_temporary: bool) -> None:
        self.place = str(path)
        self.watch_seconds = WATCH_SECONDS
        self.blobs = BlobFolder(path.parent / "blobs")
        self._path = path
        self._durability: Durability = durability
        self._is_temporary = is_temporary
        self._writing = open_file(path, durability)
        self._readers = Readers(path)
        self.check = self._readers.check
        self.pulse = self._readers.data_version

    def row(self, record: Any) -> Row:
        return row_of(record)

    def commit(self, groups: Sequence[Sequence[Row]]) -> Sequence[Cursor]:
        return commit(self._writing, self._path, groups)

    def query(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool) -> Query:
        return Query(kind, where, newest_first=newest_first)

    def ranges(self, since: Cursor | None) -> list[tuple[int, int]]:
        return [(parse_cursor(since), int(self.last()))]

    def page(self, query: Query, since: Cursor | None, after: int, until: int, limit: int) -> Page:
        with self._readers.connection() as connection:
            rows, is_last = page_rows(connection, query, after, until, limit)
        return Page([(row[0], stored_of(row[1:], Cursor(str(row[0])), self.place)) for row in rows], is_last)

    def last(self) -> Cursor:
        with self._readers.connection() as connection:
            return Cursor(str(connection.execute(_LAST).fetchone()[0]))

    def listen(self, bell: Bell) -> None:
        """SQLite tells nobody; watchers look at `pulse`."""

    def verify(self) -> list[str]:
        with self._readers.connection() as connection:
            lines = [line for (line,) in connection.execute("PRAGMA integrity_check")]
        return [] if lines == ["ok"] else [f"{self._path}: {line}" for line in lines]

    def remove(self, removal: Removal) -> int:
        return remove_rows(self._path, self._durability, removal)

    def vacuum(self) -> None:
        vacuum_file(self._path, self._durability)
        self.blobs.clear_drafts()

    def occupied(self) -> int:
        files = [self._path.with_name(self._path.name + end) for end in ("", "-wal", "-shm")]
        return sum(file.stat().st_size for file in files if file.exists()) + self.blobs.occupied()

    def close(self) -> None:
        self._writing.close()
        self._readers.close()
        if self._is_temporary:
            shutil.rmtree(self._path.parent, ignore_errors=True)


def commit(connection: sqlite3.Connection, path: Path, groups: Sequence[Sequence[Row]]) -> list[Cursor]:
    """Write the rows in one transaction. The lock is held throughout, so their positions are consecutive."""
    rows = [row for group in groups for row in group]
    pieces = [rows[start : start + ROWS_A_STATEMENT] for start in range(0, len(rows), ROWS_A_STATEMENT)] or [rows]
    with explained(path, "written"):
        if len(pieces) == 1:  # a statement alone is a transaction
            last = _insert(connection, rows)
        else:
            with transaction(connection):
                last = [_insert(connection, piece) for piece in pieces][-1]
    position = last - len(rows)
    cursors: list[Cursor] = []
    for group in groups:
        position += len(group)
        cursors.append(Cursor(str(position)))
    return cursors


def _insert(connection: sqlite3.Connection, rows: Sequence[Row]) -> int:
    """Write the rows with one statement; the position of the last."""
    if not rows:
        return connection.execute(_LAST).fetchone()[0]
    written = connection.execute(_INSERTS[len(rows)], [value for row in rows for value in row])
    assert written.lastrowid is not None
    return written.lastrowid


@contextmanager
def transaction(connection: sqlite3.Connection) -> Generator[None]:
    """The writing inside the block, all or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has already rolled back after some errors
            connection.execute("ROLLBACK")
        raise


def page_rows(
    connection: sqlite3.Connection, query: Query, after: int, until: int, limit: int
) -> tuple[list[tuple[Any, ...]], bool]:
    """The rows of one page (position first), and whether it is the last one of its range."""
    found: list[tuple[Any, ...]] = []
    num_bytes = 0
    with closing(connection.execute(*query.page(after, until, limit))) as rows:
        for row in rows:
            found.append(row)
            num_bytes += len(row[-1])
            if num_bytes > PAGE_BYTES:
                return found, False
    return found, len(found) < limit


def file_of(address: str | Path) -> Path:
    """The database file an address means. `sqlite:///x` is relative, `sqlite:////x` absolute, a path is a folder."""
    text = str(address)
    if text.startswith("sqlite://"):
        name = text.removeprefix("sqlite://").removeprefix("/")
        if not name:
            raise StoreError(f"{text!r} names no file. Write sqlite:///runs.sqlite3, or a folder such as ./runs.")
        return Path(name).expanduser().resolve()
    return Path(text).expanduser().resolve() / FILE_NAME


class Readers:
    """Connections for reading, lent to one thread at a time; a few idle ones are kept."""

    def __init__(self, path: Path) -> None:
        self._is_closed = False
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._watching: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._process = os.getpid()

    def check(self) -> None:
        if self._is_closed:
            raise closed(str(self._path))
        if os.getpid() != self._process:
            raise forked(str(self._path))

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
            self._is_closed = True
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
            if not self._is_closed and len(self._idle) < 4:
                self._idle.append(connection)
                return
        connection.close()
