"""A record as the columns every store keeps, and back: the body is JSON text, exactly as it will be read."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from agentlightning.data.record import RECORD_KINDS, Record
from agentlightning.errors import DataError, StoreError
from agentlightning.store.base import Cursor, StoredRecord

Row = tuple[str, str, str, str, float, int, str]
"""kind, id, run, rollout, time, version, body."""


_NON_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def row_of(record: Record) -> Row:
    """The columns of a record. The body becomes text here and now: it may change once the caller goes on.

    DataError for an unknown kind and for what JSON cannot hold.
    """
    if record.kind not in RECORD_KINDS:
        raise DataError(f"unknown record kind {record.kind!r}. Known: {', '.join(RECORD_KINDS)}.")
    try:
        body = msgspec.json.encode(record.body)
        for text in (record.id, record.run, record.rollout):
            text.encode()
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{record.kind} {record.id!r} cannot be stored as JSON: {error}. "
            "Give strings, numbers, booleans, null, lists and mappings only."
        ) from error
    if b"null" in body and _may_hold_non_finite(record.body) and (place := _non_finite(record.body, "body")):
        raise DataError(f"{record.kind} {record.id!r}: {place} is not a finite number, and JSON has no word for that.")
    return record.kind, record.id, record.run, record.rollout, record.time, record.version, body.decode()


def _may_hold_non_finite(body: dict[str, Any]) -> bool:
    """Might there be a NaN or infinity in it? Asked of every record with a null in it, so it must be quick: in
    MessagePack such a number is a byte 0xcb and an exponent of ones, which no UTF-8 text contains."""
    try:
        return _NON_FINITE.search(msgspec.msgpack.encode(body)) is not None
    except OverflowError:  # whole numbers above 64 bits
        return True


def _non_finite(value: Any, place: str) -> str | None:
    """Where a NaN or infinity stands, which would silently become null."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    if isinstance(value, dict):
        items = ((f"{place}.{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"{place}[{index}]", item) for index, item in enumerate(value))
    else:
        return None
    return next((found for where, item in items if (found := _non_finite(item, where))), None)


def stored_of(row: Sequence[Any], cursor: Cursor, place: str) -> StoredRecord:
    """The record of a row. StoreError when its body does not read, naming the `place` that kept it."""
    kind, id, run, rollout, time, version, body = row
    try:
        content = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"store {place}: record {cursor} ({kind} {id!r}) is damaged: {error}. "
            "Keep a copy of the store, and import your last JSONL export into a new one."
        ) from error
    record = Record(kind=kind, id=id, run=run, rollout=rollout, time=time, version=version, body=content)
    return StoredRecord(record, cursor)
