"""Segments that hold removed records are replaced by smaller ones: the new object is created, then the old deleted.

Which of them a reader meets makes no difference, since the removal itself is a segment that every reader applies. So a
process killed at any moment leaves at most an object too many, and the next compaction clears it away; two compactions
at once only find less to do.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from typing import NamedTuple

from agentlightning.store.objects_index import SegmentIndex
from agentlightning.store.objects_place import Missing, Objects
from agentlightning.store.objects_reader import SegmentReader
from agentlightning.store.objects_segment import Segment, SegmentId, decode, encode, generation_of

MAX_TRIES = 5
"""When another compaction works on the same segment."""


class _Gone(NamedTuple):
    clock: int
    runs: set[str]
    rollouts: set[str]


class Compaction:
    """Called from one thread at a time."""

    def __init__(self, objects: Objects, index: SegmentIndex, reader: SegmentReader, *, flushes: bool) -> None:
        self._objects = objects
        self._index = index
        self._reader = reader
        self._flushes = flushes

    def run(self) -> None:
        """Make all segments smaller that hold what was removed, as far as this index knows."""
        removals = [_Gone(clock, {*r.runs}, {*r.rollouts}) for clock, r in self._index.removals()]
        by_writer: defaultdict[int, list[SegmentId]] = defaultdict(list)
        for id in self._index.heavy():
            by_writer[id.writer].append(id)
        for writer, ids in by_writer.items():
            objects = self._reader.objects_of(writer)
            for id in ids:
                self._lighten(id, objects.get(id, []), removals)
            self._index.lightened(ids)

    def _lighten(self, id: SegmentId, names: list[str], removals: list[_Gone]) -> None:
        for _ in range(MAX_TRIES):
            if names and (names := self._smallest(id, names, removals)):
                for name in names[:-1]:
                    self._objects.delete(name)
                return
            names = self._reader.objects_of(id.writer).get(id, [])

    def _smallest(self, id: SegmentId, names: list[str], removals: list[_Gone]) -> list[str]:
        """The objects, the last without anything removed; none when somebody else was at work there."""
        try:
            segment = decode(id, self._objects.get(names[-1]), self._objects.place)
        except Missing:
            return []
        gone = {place for place, row in segment.numbered() if _is_removed(segment, row[2], row[3], removals)}
        if not gone:
            return names
        name = id.name_of(generation_of(names[-1]) + 1)
        if not self._objects.create(name, encode(segment.without(gone), f"compaction {uuid.uuid4().hex[:12]}")):
            return []
        if self._flushes:
            self._objects.flush(name)
        return [*names, name]


def _is_removed(segment: Segment, run: str, rollout: str, removals: list[_Gone]) -> bool:
    return any(
        segment.clock < gone.clock and (run in gone.runs or (not run and rollout in gone.rollouts)) for gone in removals
    )
