"""One SQLite file of ours: how it is opened and checked, what is inside, and what its errors mean.

The file carries our `application_id` and a schema version (`user_version`): somebody else's database and a file from
a newer release are refused before anything is written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from agentlightning.errors import ConfigError, StoreError

Durability = Literal["process", "power"]
"""What an acknowledged write survives: a killed process, or also a power cut (one fsync per commit)."""

FILE_VERSION = 1
APPLICATION_ID = 0x41474C54  # "AGLT"
BUSY_SECONDS = 60.0
"""How long a write waits for another process that is writing, before it fails."""

INDEXED_PATHS = ("split", "status", "task")
"""Fields of a rollout's body that have an index."""

COLUMNS = "position, kind, id, run, rollout, time, version, body"

# No row is ever changed, and SQLite lets one writer in at a time, so positions are given out in commit order: a reader
# that has seen position n never finds a smaller one later. AUTOINCREMENT keeps this true when rows are removed.
SCHEMA = (
    """CREATE TABLE records (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        id TEXT NOT NULL,
        run TEXT NOT NULL,
        rollout TEXT NOT NULL,
        time REAL NOT NULL,
        version INTEGER NOT NULL,
        body TEXT NOT NULL
    )""",
    "CREATE INDEX records_by_kind ON records (kind)",
    "CREATE INDEX records_by_id ON records (kind, id)",
    "CREATE INDEX records_by_run ON records (kind, run)",
    "CREATE INDEX records_by_rollout ON records (kind, rollout)",
    *(
        f"CREATE INDEX rollouts_by_{path} ON records (json_extract(body, '$.\"{path}\"')) WHERE kind = 'rollout'"
        for path in INDEXED_PATHS
    ),
)


def connect(path: Path, durability: Durability) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_file(path: Path, durability: Durability) -> sqlite3.Connection:
    """A connection for writing; the file and its folder are created when they are not there.

    Raises StoreError when the path cannot hold a store, holds something else, or comes from a newer release.
    """
    if durability not in get_args(Durability):
        raise ConfigError(f"durability {durability!r} is not known: use 'process' or 'power'.")
    _make_folder(path)
    with explained(path, "opened"):
        connection = connect(path, durability)
        try:
            connection.execute("BEGIN")  # one moment for all the questions: another process may be creating the store
            is_new = _is_new(connection, path)
            connection.execute("COMMIT")
            if is_new:
                _create(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _make_folder(path: Path) -> None:
    if path.is_dir():
        raise StoreError(f"store {path} is a folder, but sqlite:/// names a file. Write the folder alone: {path}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise StoreError(
            f"store {path.parent}: a file stands where the store's folder should be. "
            f"Name a folder, or write sqlite:///{path.parent} if that file is the store."
        ) from error
    except OSError as error:
        raise StoreError(
            f"store {path.parent}: the folder cannot be made ({error.strerror}). "
            "Make it writable for this user, or choose another store address."
        ) from error


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    version = _pragma(connection, "user_version")
    is_ours = _pragma(connection, "application_id") == APPLICATION_ID
    is_empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not is_ours and not is_empty:
        raise StoreError(
            f"store {path} is an SQLite database of something else (no Agent Lightning mark in it). "
            "Nothing was changed; choose another store address."
        )
    if version > FILE_VERSION:
        raise StoreError(
            f"store {path} was written by a newer release (format {version}; this release reads up to {FILE_VERSION}). "
            "Upgrade:  pip install -U agentlightning"
        )
    return is_empty


def _create(connection: sqlite3.Connection, path: Path) -> None:
    _enter_wal(connection)
    connection.execute("BEGIN IMMEDIATE")
    if _is_new(connection, path):  # another process may have been faster
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FILE_VERSION}")
    connection.execute("COMMIT")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """WAL is a property of the file. The switch does not wait for other processes by itself, so it is tried again."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def explained(path: Path, action: str) -> Generator[None]:
    """Turn SQLite's errors inside the block into a StoreError that says where, what and what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path, action) from error


def explain(error: sqlite3.Error, path: Path, action: str) -> StoreError:
    """The StoreError for an SQLite error met while the store was being `action` ("opened", "read", "written")."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    remedy = _REMEDIES.get(code, "If it happens again, please report it with this message.")
    return StoreError(f"store {path} could not be {action}: {error}. {remedy}")


_REMEDIES = {
    sqlite3.SQLITE_FULL: (
        "The disk or its quota is full, and nothing of this append was kept. Free some space and append again."
    ),
    sqlite3.SQLITE_READONLY: "Make the file and its folder writable for this user, or choose another store address.",
    sqlite3.SQLITE_CANTOPEN: (
        "Check that the folder exists and is writable for this user, or choose another store address."
    ),
    sqlite3.SQLITE_NOTADB: "The file is not a store. Move it away, or choose another store address.",
    sqlite3.SQLITE_CORRUPT: (
        "The file is damaged. Keep a copy; `sqlite3 FILE .recover` saves what can be read, "
        "or import your last JSONL export into a new store."
    ),
    sqlite3.SQLITE_BUSY: (
        f"Another process has been writing for over {BUSY_SECONDS:.0f} seconds. "
        "Find it (`fuser FILE`) and end it, or wait and append again."
    ),
    sqlite3.SQLITE_IOERR: "The disk failed, or the folder is on a network drive; SQLite needs a local one.",
}
