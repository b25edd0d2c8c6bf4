"""A segment: rows written together, as one immutable object that can be checked.

`segments/<writer>/<number>.jsonl.gz`: gzip over lines of JSON, the header first (`zcat` shows it), then one record a
line. A writer's segment 0 is its claim on the number; a sealed one is its last.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from agentlightning.errors import StoreError
from agentlightning.store.rows import Row

FORMAT = 1
_NAME = re.compile(r"segments/([0-9]{8})/([0-9]{8})\.jsonl\.gz")


class SegmentId(NamedTuple):
    """The n-th segment of a writer."""

    writer: int
    number: int

    @property
    def name(self) -> str:
        return f"{folder_of(self.writer)}/{self.number:08d}.jsonl.gz"


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


class Segment(NamedTuple):
    """What a segment says."""

    id: SegmentId
    clock: int
    is_seal: bool
    rows: list[Row]


class _Line(msgspec.Struct):
    kind: str
    id: str
    run: str
    rollout: str
    time: float
    version: int
    body: msgspec.Raw


_lines = msgspec.json.Decoder(_Line)


def encode(id: SegmentId, clock: int, by: str, rows: Sequence[Row] = (), *, is_seal: bool = False) -> bytes:
    """The object of a segment. `by` names the writer, so that no two ever write the same bytes."""
    lines = msgspec.json.Encoder().encode_lines([_Line(*row[:6], msgspec.Raw(row[6].encode())) for row in rows])
    header = Header(
        format=FORMAT,
        writer=id.writer,
        number=id.number,
        clock=clock,
        by=by,
        num_rows=len(rows),
        sha256=hashlib.sha256(lines).hexdigest(),
        is_seal=is_seal,
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
    return Segment(id, header.clock, header.is_seal, rows)


def damaged(id: SegmentId, place: str, reason: str) -> DamagedSegment:
    """The error about a segment that cannot be used."""
    return DamagedSegment(f"{place}: segment {id.name} is damaged: {reason}.")


def _row(line: _Line) -> Row:
    return line.kind, line.id, line.run, line.rollout, line.time, line.version, bytes(line.body).decode()
