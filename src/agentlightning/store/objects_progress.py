"""How far somebody has read: one position per writer, written short. It is what a cursor of object segments says.

`3` · every writer below 3 has been read to its end (its seal). `3|5=12|6=4!` · also segments 0–12 of writer 5 and
writer 6 whole. `3|5=12@6.0.40` · also the first 40 records of segment 0 of writer 6.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from agentlightning.errors import ConfigError
from agentlightning.store.base import Cursor
from agentlightning.store.objects_segment import SegmentId

_CURSOR = re.compile(r"(\d+)((?:\|\d+=\d+!?)*)(?:@(\d+)\.(\d+)\.(\d+))?", re.ASCII)


class Progress:
    """Grows a segment at a time, each writer's in order."""

    def __init__(self, base: int = 0, last: dict[int, int] | None = None, sealed: set[int] | None = None) -> None:
        self._base = base
        self._last = last or {}
        self._sealed = sealed or set()

    @property
    def base(self) -> int:
        """The first writer that has not been read to its end."""
        return self._base

    def next_number(self, writer: int) -> int | None:
        """The segment to read next of a writer, None when there is none."""
        if writer < self._base or writer in self._sealed:
            return None
        return self._last.get(writer, -1) + 1

    def num_writers(self) -> int:
        """Writers below this number are known."""
        return max(self._last, default=self._base - 1) + 1

    def includes(self, id: SegmentId) -> bool:
        return id.writer < self._base or id.number <= self._last.get(id.writer, -1)

    def add(self, id: SegmentId, *, is_seal: bool) -> None:
        self._last[id.writer] = id.number
        if is_seal:
            self._sealed.add(id.writer)
        while self._base in self._sealed:
            self._sealed.discard(self._base)
            self._last.pop(self._base, None)
            self._base += 1

    def __str__(self) -> str:
        entries = (f"|{writer}={n}{'!' * (writer in self._sealed)}" for writer, n in sorted(self._last.items()))
        return f"{self._base}{''.join(entries)}"


class Position(NamedTuple):
    """Everything in `progress`, and the first `num_rows` of the segment `within`."""

    progress: Progress
    within: SegmentId | None
    num_rows: int


def parse_progress(text: str) -> Progress:
    """What `str` of a progress gave."""
    base, *entries = text.split("|")
    pairs = [entry.rstrip("!").split("=") for entry in entries]
    last = {int(writer): int(number) for writer, number in pairs}
    return Progress(int(base), last, {int(entry.split("=")[0]) for entry in entries if entry.endswith("!")})


def parse_cursor(cursor: Cursor | None) -> Position:
    """Where a cursor stands; the beginning for None. ConfigError when it is none of ours."""
    if cursor is None:
        return Position(Progress(), None, 0)
    found = _CURSOR.fullmatch(cursor)
    if not found:
        raise ConfigError(f"{cursor!r} is no cursor of this store. Use one that its append() or read() gave.")
    within = SegmentId(int(found[3]), int(found[4])) if found[3] else None
    return Position(parse_progress(found[1] + found[2]), within, int(found[5] or 0))


def cursor_within(before: str, id: SegmentId, num_rows: int) -> Cursor:
    """Behind the first rows of a segment that comes after `before`."""
    return Cursor(f"{before}@{id.writer}.{id.number}.{num_rows}")
