"""The local index of object segments: an SQLite file with their records, so that filters work as they do there.

Only a cache: made anew when deleted, shared by all processes of this user. Segments stand in it in the order in which
they arrived here, which may be another order elsewhere; cursors therefore speak of segments, not of its positions.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from agentlightning.errors import StoreError
from agentlightning.store.base import Cursor, Removal, StoredRecord
from agentlightning.store.objects_progress import Position, Progress, cursor_within, parse_progress
from agentlightning.store.objects_removal import apply_removal, keep_removal, positions_of, read_removals
from agentlightning.store.objects_segment import Segment, SegmentId
from agentlightning.store.paged import Page
from agentlightning.store.rows import stored_of
from agentlightning.store.sqlite import Readers, page_rows, transaction
from agentlightning.store.sqlite_file import COLUMNS, explained, open_file
from agentlightning.store.sqlite_query import Query
from agentlightning.store.sqlite_removal import conditions, vacuum_file

_TABLES = (
    """CREATE TABLE IF NOT EXISTS segments (
        arrival INTEGER PRIMARY KEY,
        writer INTEGER NOT NULL,
        number INTEGER NOT NULL,
        clock INTEGER NOT NULL,
        after INTEGER NOT NULL,
        until INTEGER NOT NULL,
        before TEXT NOT NULL,
        progress TEXT NOT NULL,
        damage TEXT,
        own_clock INTEGER NOT NULL,
        is_heavy INTEGER NOT NULL DEFAULT 0,
        UNIQUE (writer, number)
    )""",
    "CREATE TABLE IF NOT EXISTS removals (clock INTEGER NOT NULL, runs TEXT NOT NULL, rollouts TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS segments_heavy ON segments (arrival) WHERE is_heavy",
    "CREATE INDEX IF NOT EXISTS segments_by_until ON segments (until)",
    "CREATE INDEX IF NOT EXISTS segments_damaged ON segments (arrival) WHERE damage IS NOT NULL",
)
_LAYOUT = 2
"""Of these tables; an index of another layout is left alone, and a new one made."""

_COLUMNS = "writer, number, clock, after, until, before, progress"

_INSERT = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

_START = Position(Progress())


class Arrived(NamedTuple):
    """A segment in the index: its rows have positions (after, until]; `before` and `progress` frame it."""

    writer: int
    number: int
    clock: int
    after: int
    until: int
    before: str
    progress: str

    @property
    def id(self) -> SegmentId:
        return SegmentId(self.writer, self.number)

    def cursors(self, since: Position = _START) -> SegmentCursors:
        """The cursors of somebody who had read `since`, then what arrived here."""
        before = since.joined(parse_progress(self.before), without=self.id)
        return SegmentCursors(self, str(before), Cursor(str(since.joined(parse_progress(self.progress)))))


class SegmentCursors(NamedTuple):
    """Where readers of a segment stand, at its start, at its end, and in between."""

    segment: Arrived
    before: str
    after: Cursor

    def at(self, num_rows: int) -> Cursor:
        """Behind its first rows."""
        if num_rows == self.segment.until - self.segment.after:
            return self.after
        return cursor_within(self.before, self.segment.id, num_rows) if num_rows else Cursor(self.before)


_NOTHING = Arrived(0, 0, 0, 0, 0, "0", "0")


class SegmentIndex:
    """Used from any thread; other processes may write to the same file."""

    def __init__(self, place: str, store_id: str) -> None:
        self._place = place
        self._path = (
            cache_folder() / hashlib.sha256(f"{place} {store_id} {_LAYOUT}".encode()).hexdigest()[:24] / "index.sqlite3"
        )
        with self._explained():
            self._writing = open_file(self._path, "process")
            with transaction(self._writing):
                for statement in _TABLES:
                    self._writing.execute(statement)
        self._readers = Readers(self._path)
        self._lock = threading.Lock()

    def newest(self) -> Arrived:
        """The segment that arrived last."""
        with self._explained(), self._readers.connection() as connection:
            return _newest(connection)

    def add(self, segments: Sequence[tuple[Segment, str | None]]) -> Arrived | None:
        """Take in segments (with what is wrong with them), each writer's without a gap; others are passed over.

        Gives the last one of them as it stands in the index, None when it would have left a gap.
        """
        self.check()
        connection = self._writing
        with self._explained(), self._lock, transaction(connection):
            newest = _newest(connection)
            progress = parse_progress(newest.progress)
            for segment, damage in segments:
                if progress.next_number(segment.id.writer) == segment.id.number:
                    newest = _append(connection, newest, progress, segment, damage)
            id = segments[-1][0].id
            select = f"SELECT {_COLUMNS} FROM segments WHERE writer = ? AND number = ?"
            row = connection.execute(select, id).fetchone()
            return Arrived(*row) if row else None

    def ranges_after(self, position: Position) -> list[tuple[int, int]]:
        """What a cursor has not seen, as ascending ranges of positions."""
        select = f"SELECT {_COLUMNS} FROM segments WHERE writer >= ? AND until > after ORDER BY arrival"
        ranges: list[tuple[int, int]] = []
        with self._explained(), self._readers.connection() as connection:
            for row in connection.execute(select, [position.progress.base]):
                arrived = Arrived(*row)
                if position.progress.includes(arrived.id):
                    continue
                after = arrived.after + position.num_rows(arrived.id)
                if ranges and ranges[-1][1] == after:
                    after = ranges.pop()[0]
                ranges.append((after, arrived.until))
        return ranges

    def page(self, query: Query, since: Position, after: int, until: int, limit: int) -> Page:
        """The first records of a range that match, with cursors that mean the same everywhere."""
        with self._explained(), self._readers.connection() as connection:
            rows, is_last = page_rows(connection, query, after, until, limit)
            found: list[tuple[int, StoredRecord]] = []
            arrived, cursors = _NOTHING, _NOTHING.cursors()
            select = f"SELECT {_COLUMNS} FROM segments WHERE until >= ? AND until > after ORDER BY until LIMIT 1"
            for position, *columns in rows:
                if not arrived.after < position <= arrived.until:
                    arrived = Arrived(*connection.execute(select, [position]).fetchone())
                    cursors = arrived.cursors(since)
                found.append((position, stored_of(columns, cursors.at(position - arrived.after), self._place)))
        return Page(found, is_last)

    def count(self, removal: Removal) -> int:
        """How many records a removal would take away."""
        with self._explained(), self._readers.connection() as connection:
            return sum(len(positions_of(connection, *given)) for given in conditions(removal))

    def removals(self) -> list[tuple[int, Removal]]:
        """Everything that was removed, with the clocks below which it was."""
        with self._explained(), self._readers.connection() as connection:
            return read_removals(connection)

    def heavy(self) -> list[SegmentId]:
        """Segments that hold removed records, as far as is known here."""
        with self._explained(), self._readers.connection() as connection:
            select = "SELECT writer, number FROM segments WHERE is_heavy ORDER BY arrival"
            return [SegmentId(*row) for row in connection.execute(select)]

    def lightened(self, ids: Sequence[SegmentId]) -> None:
        """These segments hold nothing removed any more."""
        with self._explained(), self._lock, transaction(self._writing):
            self._writing.executemany("UPDATE segments SET is_heavy = 0 WHERE writer = ? AND number = ?", ids)

    def shrink(self) -> None:
        """Give back the room of removed records."""
        vacuum_file(self._path, "process")

    def damage(self) -> list[str]:
        """What was wrong with the segments that were passed over."""
        with self._explained(), self._readers.connection() as connection:
            return [text for (text,) in connection.execute("SELECT damage FROM segments WHERE damage IS NOT NULL")]

    def check(self) -> None:
        self._readers.check()

    def close(self) -> None:
        with self._lock:
            self._readers.close()
            self._writing.close()

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            with explained(self._path, "used"):
                yield
        except StoreError as error:
            if error.__cause__ is None:  # not about the file
                raise
            raise StoreError(
                f"{error} It is only an index of {self._place}: deleting {self._path.parent} loses nothing. "
                "AGENTLIGHTNING_CACHE names another folder for it."
            ) from error


def cache_folder() -> Path:
    """Where this user's caches are: AGENTLIGHTNING_CACHE, else what the system says."""
    if given := os.environ.get("AGENTLIGHTNING_CACHE"):
        return Path(given).expanduser().resolve() / "segments"
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        folder = Path("~/Library/Caches")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return folder.expanduser() / "agentlightning" / "segments"


def _newest(connection: Any) -> Arrived:
    row = connection.execute(f"SELECT {_COLUMNS} FROM segments ORDER BY arrival DESC LIMIT 1").fetchone()
    return Arrived(*row) if row else _NOTHING


def _append(connection: Any, newest: Arrived, progress: Progress, segment: Segment, damage: str | None) -> Arrived:
    progress.add(segment.id, is_seal=segment.is_seal)
    after, clock = newest.until, max(newest.clock, segment.clock)
    arrived = Arrived(*segment.id, clock, after, after + segment.num_rows, newest.progress, str(progress))
    connection.executemany(_INSERT, ((after + 1 + place, *row) for place, row in segment.numbered()))
    values = ", ".join("?" * (len(arrived) + 2))
    insert = f"INSERT INTO segments ({_COLUMNS}, damage, own_clock) VALUES ({values})"
    connection.execute(insert, [*arrived, damage, segment.clock])
    if segment.removes is not None:
        keep_removal(connection, segment.clock, segment.removes)
    for removed_clock, removal in read_removals(connection, after=segment.clock):  # it came late: its clock is lower
        apply_removal(connection, removed_clock, removal)
    return arrived
