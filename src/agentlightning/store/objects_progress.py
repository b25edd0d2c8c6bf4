"""How far somebody has read: one position per writer, written short. It is what a cursor of object segments says.

`3` · every writer below 3 has been read to its end (its seal). `3|5=12|6=4!` · also segments 0–12 of writer 5 and
writer 6 whole. `3|5=12@6.0.40` · also the first 40 records of segment 0 of writer 6.
"""

from __future__ import annotations

import re

from agentlightning.errors import ConfigError
from agentlightning.store.base import Cursor
from agentlightning.store.objects_segment import SegmentId

_CURSOR = re.compile(r"\d+(\|\d+=\d+!?)*(@\d+\.\d+\.\d+)*", re.ASCII)


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

    def includes(self, id: SegmentId) -> bool:
        return id.writer < self._base or id.number <= self._last.get(id.writer, -1)

    def add(self, id: SegmentId, *, is_seal: bool) -> None:
        self._last[id.writer] = id.number
        if is_seal:
            self._sealed.add(id.writer)
            self._shorten()

    def joined(self, other: Progress) -> Progress:
        """What either of them includes."""
        base = max(self._base, other._base)
        last = dict(self._last)
        for writer, number in other._last.items():
            last[writer] = max(number, last.get(writer, number))
        last = {writer: number for writer, number in last.items() if writer >= base}
        joined = Progress(base, last, {writer for writer in self._sealed | other._sealed if writer >= base})
        joined._shorten()
        return joined

    def _shorten(self) -> None:
        while self._base in self._sealed:
            self._sealed.discard(self._base)
            self._last.pop(self._base, None)
            self._base += 1

    def __str__(self) -> str:
        entries = (f"|{writer}={n}{'!' * (writer in self._sealed)}" for writer, n in sorted(self._last.items()))
        return f"{self._base}{''.join(entries)}"


class Position:
    """Everything in `progress`, and the first rows of some segments that are not in it."""

    def __init__(self, progress: Progress, begun: dict[SegmentId, int] | None = None) -> None:
        self.progress = progress
        self._begun = begun or {}

    def num_rows(self, id: SegmentId) -> int:
        """How many rows of a segment that is not in `progress` have been read."""
        return self._begun.get(id, 0)

    def joined(self, progress: Progress, *, without: SegmentId | None = None) -> Position:
        """What has been read by one who had read this, then everything in `progress`; `without` is left to say."""
        begun = {id: num_rows for id, num_rows in self._begun.items() if id != without}
        return Position(self.progress.joined(progress), begun)

    def __str__(self) -> str:
        begun = ((id, n) for id, n in sorted(self._begun.items()) if not self.progress.includes(id))
        return f"{self.progress}{''.join(f'@{id.writer}.{id.number}.{n}' for id, n in begun)}"


def cursor_within(before: str, id: SegmentId, num_rows: int) -> Cursor:
    """Behind the first rows of a segment that comes after the cursor `before`."""
    return Cursor(f"{before}@{id.writer}.{id.number}.{num_rows}")


def parse_progress(text: str) -> Progress:
    """What `str` of a progress gave."""
    base, *entries = text.split("|")
    pairs = [entry.rstrip("!").split("=") for entry in entries]
    last = {int(writer): int(number) for writer, number in pairs}
    return Progress(int(base), last, {int(entry.split("=")[0]) for entry in entries if entry.endswith("!")})


def parse_cursor(cursor: Cursor | None) -> Position:
    """Where a cursor stands; the beginning for None. ConfigError when it is none of ours."""
    if cursor is None:
        return Position(Progress())
    if not _CURSOR.fullmatch(cursor):
        raise ConfigError(f"{cursor!r} is no cursor of this store. Use one that its append() or read() gave.")
    progress, *parts = cursor.split("@")
    numbers = [[int(number) for number in part.split(".")] for part in parts]
    return Position(parse_progress(progress), {SegmentId(writer, n): rows for writer, n, rows in numbers})
