"""Brings the local index up to date with the segments that others have written."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from agentlightning.errors import StoreError
from agentlightning.store.group_commit import closed
from agentlightning.store.objects_index import SegmentIndex
from agentlightning.store.objects_place import Missing, Objects
from agentlightning.store.objects_progress import Progress, parse_progress
from agentlightning.store.objects_segment import (
    DamagedSegment,
    Segment,
    SegmentId,
    damaged,
    decode,
    folder_of,
    generation_of,
    id_of,
    last_writer,
)

_log = logging.getLogger(__name__)

NUM_THREADS = 16
NUM_AHEAD = 8
"""Segments of one writer that are fetched before they are needed."""

MAX_LOOKS = 5
"""For a segment whose objects are being replaced while it is read."""

BATCH_ROWS = 10_000
"""Taken into the index at a time."""

Fetched = tuple[Segment, str | None]
"""A segment, and what is wrong with it where damaged ones are skipped."""


class SegmentReader:
    """Used from any thread."""

    def __init__(self, objects: Objects, index: SegmentIndex) -> None:
        self._objects = objects
        self._index = index
        self._moved: dict[SegmentId, str] = {}
        """Segments whose first object is gone → the one to read, where a listing showed it."""
        self._is_closed = False
        self._lock = threading.Lock()
        self._tickets = itertools.count(1)
        self._last_ticket = self._last_served = 0
        self._pool = ThreadPoolExecutor(NUM_THREADS, "store segments")

    def sync(self) -> None:
        """Take in everything that was written before this call. Callers that wait for each other share the work.

        StoreError for a damaged segment, now or met earlier, unless those are skipped.
        """
        ticket = self._last_ticket = next(self._tickets)
        with self._lock:
            if self._last_served < ticket:
                served = self._last_ticket
                try:
                    self._take_in()
                except (RuntimeError, CancelledError):  # the pool ended under it: the store is being closed
                    if not self._is_closed:
                        raise
                    raise closed(self._objects.place) from None
                self._last_served = served
        if self._objects.damaged == "refuse" and (damage := self._index.damage()):
            raise StoreError(damage[0])

    def fetch(self, id: SegmentId) -> Segment:
        """One segment from the store. DamagedSegment when it is missing or does not read."""
        name = self._moved.get(id, id.name)
        for _ in range(MAX_LOOKS):
            try:
                return decode(id, self._objects.get(name), self._objects.place)
            except Missing as error:  # removed rows may be being cleared away: what is left has another name
                names = self.objects_of(id.writer).get(id)
                if not names:
                    raise damaged(id, self._objects.place, "it is missing") from error
                name = names[0]
        raise StoreError(f"store {self._objects.place}: segment {id.name} changes all the time. Try again later.")

    def objects_of(self, writer: int, after: str = "") -> dict[SegmentId, list[str]]:
        """A writer's segments with their objects, the first generation first."""
        found: dict[SegmentId, list[str]] = {}
        for listed in self._objects.list(folder_of(writer), after):
            if id := id_of(listed.name):
                found.setdefault(id, []).append(listed.name)
        return {id: sorted(names, key=generation_of) for id, names in found.items()}

    def find_after(self, progress: Progress) -> list[tuple[int, range]]:
        """Writers with the numbers of the segments that came after `progress`, those included that should be there."""
        top = last_writer(self._objects.folders("segments"))
        starts = {w: start for w in range(progress.base, top + 1) if (start := progress.next_number(w)) is not None}
        found: list[tuple[int, range]] = []
        for writer, last in zip(starts, self._pool.map(self._last_number, starts.items()), strict=True):
            # Numbers are claimed one after the other: below a writer that is there, every one was there.
            is_gone = last is None and starts[writer] == 0 and writer < top
            if last is not None or is_gone:
                found.append((writer, range(starts[writer], (last or 0) + 1)))
        return found

    def close(self) -> None:
        self._is_closed = True
        self._pool.shutdown(cancel_futures=True)

    def _take_in(self) -> None:
        progress = parse_progress(self._index.newest().progress)
        streams = [self._stream(writer, numbers) for writer, numbers in self.find_after(progress)]
        batch: list[Fetched] = []
        num_rows = 0
        try:
            for fetched in heapq.merge(*streams, key=lambda one: one[0].clock):
                batch.append(fetched)
                num_rows += 1 + len(fetched[0].rows)
                if num_rows >= BATCH_ROWS:
                    self._index.add(batch)
                    batch, num_rows = [], 0
        finally:
            if batch:
                self._index.add(batch)

    def _last_number(self, writer_and_start: tuple[int, int]) -> int | None:
        """The last segment of a writer, from a number on; None when there is none."""
        writer, start = writer_and_start
        after = SegmentId(writer, start - 1).name if start else ""
        objects = self.objects_of(writer, after)
        self._moved |= {id: names[0] for id, names in objects.items() if names[0] != id.name}
        return max((id.number for id in objects), default=None)

    def _stream(self, writer: int, numbers: range) -> Generator[Fetched]:
        """A writer's segments in order. The first is asked for now, others ahead of need once that was taken."""
        ids = (SegmentId(writer, number) for number in numbers)
        waiting = deque(self._submit(ids, 1))
        return self._draw(ids, waiting)

    def _draw(self, ids: Iterator[SegmentId], waiting: deque[Future[Fetched]]) -> Generator[Fetched]:
        clock = 0
        while waiting:
            segment, damage = waiting.popleft().result()
            clock = max(clock, segment.clock)
            yield segment._replace(clock=clock), damage
            waiting.extend(self._submit(ids, NUM_AHEAD - len(waiting)))

    def _submit(self, ids: Iterator[SegmentId], number: int) -> list[Future[Fetched]]:
        return [self._pool.submit(self._fetch_or_skip, id) for id in itertools.islice(ids, number)]

    def _fetch_or_skip(self, id: SegmentId) -> Fetched:
        try:
            return self.fetch(id), None
        except DamagedSegment as error:
            if self._objects.damaged == "refuse":
                raise
            _log.warning("skipped: %s", error)
            return Segment(id, 0, False, []), str(error)
