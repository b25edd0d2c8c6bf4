"""A store in a bucket (or a folder) of immutable segments: S3, Azure, Google Cloud, or the local disk, through obstore.

Writing creates objects; reading brings a local SQLite index up to date and asks that. A cursor is one position per
writer, so a segment that turns up late is never skipped, whatever the clocks say.
"""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Sequence
from typing import get_args

import msgspec

from agentlightning.data.record import Record
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.base import Cursor, Removal, Where
from agentlightning.store.bell import Bell
from agentlightning.store.group_commit import closed, forked
from agentlightning.store.objects_blobs import ObjectBlobs
from agentlightning.store.objects_compaction import Compaction
from agentlightning.store.objects_index import SegmentIndex
from agentlightning.store.objects_place import Missing, Objects
from agentlightning.store.objects_progress import Progress, parse_cursor
from agentlightning.store.objects_reader import SegmentReader
from agentlightning.store.objects_segment import FIRST_FORMAT, DamagedSegment, SegmentId
from agentlightning.store.objects_writer import SegmentWriter
from agentlightning.store.paged import Page, PagedStore
from agentlightning.store.rows import Row, row_of
from agentlightning.store.sqlite_file import Durability
from agentlightning.store.sqlite_query import Query

WATCH_SECONDS = 2.0
"""How often a watcher lists what others have written: one request for each process that is writing, and one more."""

LOCAL_WATCH_SECONDS = 0.2

_MARK = "store.json"


class _Mark(msgspec.Struct):
    format: int
    id: str


class SegmentStore(PagedStore):
    """`Store` over object segments. Any number of threads, event loops, processes and hosts may use it."""

    def __init__(self, address: str, *, durability: Durability = "process") -> None:
        """Open `s3://…`, `az://…`, `gs://…` or `segments:///folder`; an empty prefix becomes a store.

        A service keeps what it acknowledged; `durability="power"` makes a local folder do so too.
        Raises ConfigError for an address that cannot be read, StoreError when the place cannot be used.
        """
        if durability not in get_args(Durability):
            raise ConfigError(f"durability {durability!r} is not known: use 'process' or 'power'.")
        objects = Objects(address)
        backend = SegmentBackend(objects, _identity(objects), flushes=durability == "power" and objects.is_local)
        super().__init__(objects.address, backend)


class SegmentBackend:
    """A writer, a reader, and the index between them."""

    def __init__(self, objects: Objects, store_id: str, *, flushes: bool) -> None:
        self.place = objects.place
        self.watch_seconds = LOCAL_WATCH_SECONDS if objects.is_local else WATCH_SECONDS
        self.blobs = ObjectBlobs(objects, flushes=flushes)
        self._index = SegmentIndex(objects.place, store_id)
        self._reader = SegmentReader(objects, self._index)
        self._writer = SegmentWriter(objects, self._index, self._reader, flushes=flushes)
        self._compaction = Compaction(objects, self._index, self._reader, flushes=flushes)
        self._objects = objects
        self._process = os.getpid()
        self._is_closed = False

    def row(self, record: Record) -> Row:
        return row_of(record)

    def commit(self, groups: Sequence[Sequence[Row]]) -> Sequence[Cursor]:
        rows = [row for group in groups for row in group]
        if not rows:
            return [self.last()] * len(groups)
        cursors = self._writer.write(rows).cursors()
        return [cursors.at(num_rows) for num_rows in itertools.accumulate(len(group) for group in groups)]

    def query(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool) -> Query:
        return Query(kind, where, newest_first=newest_first)

    def ranges(self, since: Cursor | None) -> list[tuple[int, int]]:
        position = parse_cursor(since)
        self._sync()
        return self._index.ranges_after(position) if since else [(0, self._index.newest().until)]

    def page(self, query: Query, since: Cursor | None, after: int, until: int, limit: int) -> Page:
        return self._index.page(query, parse_cursor(since), after, until, limit)

    def last(self) -> Cursor:
        self._sync()
        return Cursor(self._index.newest().progress)

    def pulse(self) -> int:
        self._sync()
        return self._index.newest().until

    def listen(self, bell: Bell) -> None:
        """Object storage tells nobody; watchers look at `pulse`."""

    def verify(self) -> list[str]:
        """Read every segment again, from the store."""
        found: list[str] = []
        for writer, numbers in self._reader.find_after(Progress()):
            for number in numbers:
                try:
                    self._reader.fetch(SegmentId(writer, number))
                except DamagedSegment as error:
                    found.append(error.summary)
        return found

    def remove(self, removal: Removal) -> int:
        """The removal is a segment, which takes effect for everybody at once; then segments are made smaller."""
        self._sync()
        if number := self._index.count(removal):
            self._writer.write([], removal)
        self._compaction.run()
        return number

    def vacuum(self) -> None:
        """Finish what a killed removal left, and make the local index smaller."""
        self._sync()
        self._compaction.run()
        self._index.shrink()

    def occupied(self) -> int:
        return sum(listed.size for folder in ("segments", "blobs") for listed in self._objects.list(folder))

    def check(self) -> None:
        if self._is_closed:
            raise closed(self.place)
        if os.getpid() != self._process:
            raise forked(self.place)

    def close(self) -> None:
        self._is_closed = True
        try:
            self._writer.seal()
        finally:
            self._reader.close()
            self._index.close()

    def _sync(self) -> None:
        self.check()
        self._reader.sync()


def _identity(objects: Objects) -> str:
    """The id of the store that is here; an empty place gets one. StoreError for one from a newer release."""
    try:
        content = objects.get(_MARK)
    except Missing:
        content = msgspec.json.encode(_Mark(FIRST_FORMAT, uuid.uuid4().hex))
        if not objects.create(_MARK, content):  # another process was faster
            content = objects.get(_MARK)
    try:
        mark = msgspec.json.decode(content, type=_Mark)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"store {objects.place}: {_MARK} there is not ours ({error}). Choose another prefix."
        ) from error
    if mark.format > FIRST_FORMAT:
        raise StoreError(
            f"store {objects.place} was written by a newer release (format {mark.format}; this release reads up to "
            f"{FIRST_FORMAT}). Upgrade:  pip install -U agentlightning"
        )
    return mark.id
