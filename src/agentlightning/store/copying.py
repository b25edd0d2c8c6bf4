"""One store's content added to another, whatever their back ends: every record and blob, once.

A record counts as there when an equal one is; so copying again, or after an interruption, adds only what is missing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import msgspec

from agentlightning.data.record import Record
from agentlightning.store.base import Store

_BATCH_RECORDS = 500
_BATCH_BYTES = 4 << 20


class CopyReport(msgspec.Struct, frozen=True):
    """What a copy did; what the target had already is counted apart."""

    num_records: int
    num_records_there: int
    num_blobs: int
    num_blobs_there: int


async def copy_store(source: Store, target: Store) -> CopyReport:
    """Add to `target` what it lacks of `source`, in the source's order; blobs first, so that no record lacks its own.

    A record that stands n times in the source stands n times in the target. Takes 16 bytes of memory for each record
    that the target has already.
    """
    num_blobs, num_blobs_there = await _copy_blobs(source, target)
    there: Counter[bytes] = Counter()
    async for stored in target.read():
        there[_digest(stored.record)] += 1
    num_there = num_copied = num_bytes = 0
    batch: list[Record] = []
    async for stored in source.read():
        digest = _digest(stored.record)
        if there[digest]:
            there[digest] -= 1
            num_there += 1
            continue
        batch.append(stored.record)
        num_copied += 1
        num_bytes += len(msgspec.json.encode(stored.record))
        if len(batch) == _BATCH_RECORDS or num_bytes > _BATCH_BYTES:
            await target.append(batch)
            batch, num_bytes = [], 0
    await target.append(batch)
    return CopyReport(num_copied, num_there, num_blobs, num_blobs_there)


async def _copy_blobs(source: Store, target: Store) -> tuple[int, int]:
    there = {ref async for ref in target.blobs()}
    num_copied = num_there = 0
    async for ref in source.blobs():
        if ref in there:
            num_there += 1
            continue
        await target.put_blob(_drawn(source.get_blob(ref), asyncio.get_running_loop()))
        num_copied += 1
    return num_copied, num_there


def _drawn(chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The chunks, for a thread that is not the loop's."""

    async def draw() -> bytes | None:
        return await anext(chunks, None)

    while (chunk := asyncio.run_coroutine_threadsafe(draw(), loop).result()) is not None:
        yield chunk


def _digest(record: Record) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(record, order="sorted"), digest_size=16).digest()
