"""A segment: rows written together, as one immutable object that can be checked.

`segments/<writer>/<number>.jsonl.gz`: gzip over lines of JSON, the header first (`zcat` shows it), then one record a
line. A writer's segment 0 is its claim on the number; a sealed one is its last. What is left of a segment after a
removal is a new object, `<number>.1.jsonl.gz`, then `<number>.2…`; any of them may be read, for the removal itself is a
segment too.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from agentlightning.errors import StoreError
from agentlightning.store.base import Removal
from agentlightning.store.rows import Row

FORMAT = 2
"""The newest that is read; what needs no more is written as the first."""
FIRST_FORMAT = 1
_NAME = re.compile(r"segments/([0-9]{8})/([0-9]{8})(?:\.([0-9]+))?\.jsonl\.gz")


class SegmentId(NamedTuple):
    """The n-th segment of a writer."""

    writer: int
    number: int

    @property
    def name(self) -> str:
        return self.name_of(0)

    def name_of(self, generation: int) -> str:
        """The object's name; generations after the first hold what removals left of it."""
        suffix = f".{generation}" if generation else ""
        return f"{folder_of(self.writer)}/{self.number:08d}{suffix}.jsonl.gz"


def folder_of(writer: int) -> str:
    """The folder with a writer's segments."""
    return f"segments/{writer:08d}"


def last_writer(folders: Iterable[str]) -> int:
    """The highest writer's number among the folders that are there; -1 for none."""
    numbers = (folder.rpartition("/")[2] for folder in folders)
    return max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=-1)


def id_of(name: str) -> SegmentId | None:
    """Which segment an object is, None for one that is no segment."""
    found = _NAME.fullmatch(name)
    return SegmentId(int(found[1]), int(found[2])) if found else None


def generation_of(name: str) -> int:
    """How often removals had made a segment smaller when this object of it was written."""
    found = _NAME.fullmatch(name)
    return int(found[3] or 0) if found else 0


class DamagedSegment(StoreError):
    """A segment that is missing, torn or changed. `summary` names it; the message says what to do as well."""

    def __init__(self, summary: str) -> None:
        super().__init__(
            f"store {summary} Nothing behind it was read, so that nothing is missing unnoticed. Restore it from a "
            "backup or an older version, or open the store with ?damaged=skip to go on without its records."
        )
        self.summary = summary


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`clock` is a hybrid logical clock in milliseconds: later than everything its writer had seen, so that whoever
    sorts by it puts an effect behind its cause, however wrong the writers' clocks are."""

    format: int
    writer: int
    number: int
    clock: int
    by: str
    num_rows: int = 0
    sha256: str = ""
    is_seal: bool = False
    kept: list[int] | None = None
    """Where the rows stood among the `num_rows` that the segment had at first; None: they are all there."""
    removes: Removal | None = None
    """What is gone from every segment with a lower clock."""


class Segment(NamedTuple):
    """What a segment says, or what is left of it: `kept` are the places its rows had among `num_first` ones."""

    id: SegmentId
    clock: int
    is_seal: bool
    rows: list[Row]
    removes: Removal | None = None
    kept: list[int] | None = None
    num_first: int = 0

    @property
    def num_rows(self) -> int:
        """How many rows it had at first; cursors count those."""
        return len(self.rows) if self.kept is None else self.num_first

    def numbered(self) -> Iterable[tuple[int, Row]]:
        """Its rows with their places, from 0."""
        return zip(range(len(self.rows)) if self.kept is None else self.kept, self.rows, strict=True)

    def without(self, indexes: set[int]) -> Segment:
        """What is left when the rows at these places are gone."""
        left = [(place, row) for place, row in self.numbered() if place not in indexes]
        kept, rows = [place for place, _ in left], [row for _, row in left]
        return self._replace(rows=rows, kept=kept, num_first=self.num_rows)


class _Line(msgspec.Struct):
    kind: str
    id: str
    run: str
    rollout: str
    time: float
    version: int
    body: msgspec.Raw


_lines = msgspec.json.Decoder(_Line)


def encode(segment: Segment, by: str) -> bytes:
    """The object of a segment. `by` names the writer, so that no two ever write the same bytes."""
    id, rows = segment.id, segment.rows
    lines = msgspec.json.Encoder().encode_lines([_Line(*row[:6], msgspec.Raw(row[6].encode())) for row in rows])
    header = Header(
        format=FIRST_FORMAT if segment.kept is None and segment.removes is None else FORMAT,
        writer=id.writer,
        number=id.number,
        clock=segment.clock,
        by=by,
        num_rows=segment.num_rows,
        sha256=hashlib.sha256(lines).hexdigest(),
        is_seal=segment.is_seal,
        kept=segment.kept,
        removes=segment.removes,
    )
    return gzip.compress(msgspec.json.encode(header) + b"\n" + lines, compresslevel=1, mtime=0)


def decode(id: SegmentId, content: bytes, place: str) -> Segment:
    """Read a segment's object. StoreError that names it when it is torn, damaged, or from a newer release."""
    try:
        head, _, lines = gzip.decompress(content).partition(b"\n")
        header = msgspec.json.decode(head, type=Header)
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise damaged(id, place, f"it does not read ({error})") from error
    if header.format > FORMAT:
        raise StoreError(f"{place}: segment {id.name} is from a newer release. Upgrade:  pip install -U agentlightning")
    if (header.writer, header.number) != id:
        raise damaged(id, place, f"it is a copy of {SegmentId(header.writer, header.number).name}")
    if hashlib.sha256(lines).hexdigest() != header.sha256:
        raise damaged(id, place, "its content does not match its checksum")
    rows = [_row(_lines.decode(line)) for line in lines.splitlines()]
    return Segment(id, header.clock, header.is_seal, rows, header.removes, header.kept, header.num_rows)


def damaged(id: SegmentId, place: str, reason: str) -> DamagedSegment:
    """The error about a segment that cannot be used."""
    return DamagedSegment(f"{place}: segment {id.name} is damaged: {reason}.")


def _row(line: _Line) -> Row:
    return line.kind, line.id, line.run, line.rollout, line.time, line.version, bytes(line.body).decode()
