"""Many appends, one commit: a thread writes whatever has gathered while the previous commit was under way.

Alone, an append is committed at once; under load, a commit's fixed cost is shared. Nothing is polled.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from agentlightning.errors import StoreError
from agentlightning.store.base import Cursor
from agentlightning.store.sqlite_file import explain

Row = tuple[str, str, str, str, float, int, str]
"""kind, id, run, rollout, time, version, body."""

MAX_ROWS = 4000
"""Per commit, so that one flood does not hold the lock (or a waiting future) for long."""

_INSERT = "INSERT INTO records (kind, id, run, rollout, time, version, body) VALUES (?, ?, ?, ?, ?, ?, ?)"
_LAST = "SELECT coalesce(max(position), 0) FROM records"


class _Submission(NamedTuple):
    rows: list[Row]
    future: Future[Cursor]


class GroupCommit:
    """The one writer of a store object. Other processes have their own; SQLite lets them in one at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path, on_commit: Callable[[], None]) -> None:
        self._connection = connection
        self._path = path
        self._on_commit = on_commit
        self._queue: SimpleQueue[_Submission | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"store {path.name}", daemon=True)
        self._thread.start()

    def submit(self, rows: list[Row]) -> Future[Cursor]:
        """Queue rows for the next commit; they are kept all or none. StoreError in the future after `close`."""
        future: Future[Cursor] = Future()
        if os.getpid() != self._process:  # before the lock: a fork may have copied it while it was held
            future.set_exception(forked(self._path))
            return future
        with self._lock:
            if self._is_closed:
                future.set_exception(closed(self._path))
            else:
                self._queue.put(_Submission(rows, future))
        return future

    def close(self) -> None:
        """Write what is queued, then end the thread. May be called from any thread, and again."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._gather()
            group = [entry for entry in group if entry.future.set_running_or_notify_cancel()]
            if group:
                self._commit(group)
        self._connection.close()

    def _gather(self) -> tuple[list[_Submission], bool]:
        """The submissions that are waiting now (at least one), and whether more may come."""
        group: list[_Submission] = []
        num_rows = 0
        entry = self._queue.get()
        while entry is not None:
            group.append(entry)
            num_rows += len(entry.rows)
            if num_rows >= MAX_ROWS:
                return group, True
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _commit(self, group: list[_Submission]) -> None:
        try:
            last = self._write([row for entry in group for row in entry.rows])
        except Exception as error:  # noqa: BLE001  whatever it was, it belongs to the futures, and the thread lives on
            self._fail(group, error)
            return
        position = last - sum(len(entry.rows) for entry in group)
        for entry in group:
            position += len(entry.rows)
            entry.future.set_result(Cursor(str(position)))
        self._on_commit()

    def _write(self, rows: list[Row]) -> int:
        """Commit the rows and give the last position. The lock is held throughout, so theirs are consecutive."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, rows)
        last: int = execute(_LAST).fetchone()[0]
        execute("COMMIT")
        return last

    def _fail(self, group: list[_Submission], error: Exception) -> None:
        if self._connection.in_transaction:  # SQLite has already rolled back after some errors
            self._connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            error = explain(error, self._path, "written")
        for entry in group:
            entry.future.set_exception(error)


def closed(path: Path) -> StoreError:
    """The error of whoever uses a store after it was closed."""
    return StoreError(f"store {path} is closed. Open it again with open_store().")


def forked(path: Path) -> StoreError:
    """The error of whoever carries an open store into a forked process."""
    return StoreError(
        f"store {path} was opened before this process was forked, and SQLite connections do not survive that. "
        "Open it again in the new process with open_store()."
    )
