"""Who writes segments: a number claimed for this process, counted up, and sealed at the end.

Every object is only ever created, never replaced, and that is all the safety there is: two writers cannot have the same
number, and a writer that was sealed by another (it looked dead) notices at its next segment and claims a new number.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from agentlightning.errors import StoreError
from agentlightning.store.base import Removal
from agentlightning.store.objects_index import Arrived, SegmentIndex
from agentlightning.store.objects_place import Objects, Refused
from agentlightning.store.objects_progress import parse_progress
from agentlightning.store.objects_reader import SegmentReader
from agentlightning.store.objects_segment import Segment, SegmentId, encode, folder_of, id_of, last_writer
from agentlightning.store.rows import Row

MAX_SEGMENTS = 900
"""Per claimed number, so that listing what a writer has written stays one request."""

STALE = timedelta(hours=1)
"""A writer that has written nothing for this long may be sealed by another. If it lives, it only claims anew."""

MAX_SEALED_AT_ONCE = 20


class SegmentWriter:
    """Called from any thread; one segment is written at a time."""

    def __init__(self, objects: Objects, index: SegmentIndex, reader: SegmentReader, *, flushes: bool) -> None:
        self._objects = objects
        self._index = index
        self._reader = reader
        self._flushes = flushes and objects.is_local
        self._next: SegmentId | None = None
        self._clock = 0
        self._lock = threading.RLock()
        self._by = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:12]}"

    def write(self, rows: Sequence[Row], removes: Removal | None = None) -> Arrived:
        """Keep the rows, or the removal, as one segment, durable when this returns."""
        with self._lock:
            while True:
                id = self._next or self._claim()
                if self._create(id, rows, removes=removes):
                    break
                self._next = None  # sealed by somebody who thought us dead
            self._next = SegmentId(id.writer, id.number + 1)
            segment = Segment(id, self._clock, False, list(rows), removes)
            if self._next.number >= MAX_SEGMENTS:
                self.seal()
            return self._index.add([(segment, None)]) or self._arrived(segment)

    def seal(self) -> None:
        """Say that nothing more comes from this writer. Where that fails, another will say it when it is stale."""
        with self._lock:
            if self._next is not None:
                with suppress(StoreError):
                    self._create(self._next, is_seal=True)
                self._next = None

    def _arrived(self, segment: Segment) -> Arrived:
        """The segment in an index that lacked those before it (it could not be written to for a while)."""
        self._reader.sync()
        arrived = self._index.add([(segment, None)])
        if arrived is None:
            raise StoreError(f"store {self._objects.place}: segment {segment.id.name} was written, and is gone again.")
        return arrived

    def _create(
        self, id: SegmentId, rows: Sequence[Row] = (), *, is_seal: bool = False, removes: Removal | None = None
    ) -> bool:
        """Write a segment; False when somebody else has it. After an error nobody knows, so the claim is given up."""
        self._clock = max(time.time_ns() // 1_000_000, self._index.newest().clock + 1, self._clock + 1)
        content = encode(Segment(id, self._clock, is_seal, list(rows), removes), self._by)
        try:
            # A request that was repeated after its answer was lost finds its own object.
            is_ours = self._objects.create(id.name, content) or self._objects.get(id.name) == content
            if is_ours and self._flushes:
                self._objects.flush(id.name)
        except Refused:
            raise
        except StoreError as error:
            self._next = None
            raise StoreError(f"{error} It is not known whether this was kept; look before writing it again.") from error
        return is_ours

    def _claim(self) -> SegmentId:
        """The first free number is ours."""
        writer = last_writer(self._objects.folders("segments")) + 1
        while not self._create(SegmentId(writer, 0)):
            writer += 1
        self._index.add([(Segment(SegmentId(writer, 0), self._clock, False, []), None)])
        self._seal_stale(writer)
        return SegmentId(writer, 1)

    def _seal_stale(self, own: int) -> None:
        """Seal some writers that look dead, so that cursors stay short. By the service's clock, not ours."""
        claim = self._objects.list(folder_of(own))[0]
        progress = parse_progress(self._index.newest().progress)
        open_writers = [w for w in range(progress.base, own) if progress.next_number(w) is not None]
        for writer in open_writers[:MAX_SEALED_AT_ONCE]:
            self._seal_if_stale(writer, claim.modified)

    def _seal_if_stale(self, writer: int, now: datetime) -> None:
        written = self._objects.list(folder_of(writer))
        last = id_of(written[-1].name) if written else None
        if last and written[-1].modified < now - STALE:
            self._create(SegmentId(writer, last.number + 1), is_seal=True)
