"""Many appends, one commit: a thread writes whatever has gathered while the previous commit was under way.

Alone, an append is committed at once; under load, a commit's fixed cost is shared. Nothing is polled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import NamedTuple

from agentlightning.errors import StoreError
from agentlightning.store.base import Cursor
from agentlightning.store.rows import Row

MAX_ROWS = 4000
"""Per commit, so that one flood does not hold the lock (or a waiting future) for long."""

MAX_CHARACTERS = 32 << 20
"""Of bodies per commit: a commit is held in memory whole."""

Commit = Callable[[Sequence[Sequence[Row]]], Sequence[Cursor | Exception]]
"""Writes groups of rows, each kept all or none, and gives for each its cursor or what is wrong with it. Raises what is
wrong with all of them."""


class _Submission(NamedTuple):
    rows: list[Row]
    future: Future[Cursor]


class GroupCommit:
    """The one writer of a store object: `commit` is only ever called from its thread."""

    def __init__(self, commit: Commit, place: str, on_commit: Callable[[], None]) -> None:
        self._commit = commit
        self._place = place
        self._on_commit = on_commit
        self._queue: SimpleQueue[_Submission | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"store {place}", daemon=True)
        self._thread.start()

    def submit(self, rows: list[Row]) -> Future[Cursor]:
        """Queue rows for the next commit; they are kept all or none. StoreError in the future after `close`."""
        future: Future[Cursor] = Future()
        if os.getpid() != self._process:  # before the lock: a fork may have copied it while it was held
            future.set_exception(forked(self._place))
            return future
        with self._lock:
            if self._is_closed:
                future.set_exception(closed(self._place))
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
                self._write(group)

    def _gather(self) -> tuple[list[_Submission], bool]:
        """The submissions that are waiting now (at least one), and whether more may come."""
        group: list[_Submission] = []
        num_rows = num_characters = 0
        entry = self._queue.get()
        while entry is not None:
            group.append(entry)
            num_rows += len(entry.rows)
            num_characters += sum(len(row[-1]) for row in entry.rows)
            if num_rows >= MAX_ROWS or num_characters >= MAX_CHARACTERS:
                return group, True
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _write(self, group: list[_Submission]) -> None:
        try:
            outcomes = self._commit([entry.rows for entry in group])
        except Exception as error:  # noqa: BLE001  whatever it was, it belongs to the futures, and the thread lives on
            for entry in group:
                entry.future.set_exception(error)
            return
        for entry, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Exception):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)
        self._on_commit()


def closed(place: str) -> StoreError:
    """The error of whoever uses a store after it was closed."""
    return StoreError(f"store {place} is closed. Open it again with open_store().")


def forked(place: str) -> StoreError:
    """The error of whoever carries an open store into a forked process."""
    return StoreError(
        f"store {place} was opened before this process was forked, and its connections do not survive that. "
        "Open it again in the new process with open_store()."
    )
