"""Is a store whole, and how large is it? Both are answered by reading it from one end to the other."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from agentlightning.errors import StoreError
from agentlightning.store.base import BlobRef, Store

_DIGEST = re.compile(r"[0-9a-f]{64}")


MAX_SHOWN_BLOBS = 10


class CheckReport(msgspec.Struct, frozen=True):
    """What was looked at, and what is wrong, one sentence each."""

    num_records: int
    num_blobs: int
    problems: list[str]


class SizeReport(msgspec.Struct, frozen=True):
    """Records and the bytes of their bodies by kind; blobs and their bytes."""

    num_records: dict[str, int]
    num_bytes: dict[str, int]
    num_blobs: int
    num_blob_bytes: int
    largest_blobs: list[BlobRef]
    runs: dict[str, tuple[int, int]]
    """Run ("" for what belongs to none) → records, and bytes of their bodies."""
    num_occupied_bytes: int
    """What the place takes up, indexes, compression and blobs included."""


async def check_store(store: Store) -> CheckReport:
    """Ask the back end, read every record and every blob, and look for the blobs that records name."""
    problems = await store.verify()
    num_records, named = 0, dict[BlobRef, str]()
    try:
        async for stored in store.read():
            num_records += 1
            for ref in blobs_in(stored.record.body):
                named.setdefault(ref, f"{stored.record.kind} {stored.record.id!r}")
    except StoreError as error:
        problems.append(str(error))
    kept = [ref async for ref in store.blobs()]
    problems += [
        f"{by} names the blob {ref.sha256[:12]}… of {ref.size} bytes, which is not there."
        for ref, by in named.items()
        if ref not in kept
    ]
    for ref in kept:
        try:
            async for _ in store.get_blob(ref):
                pass
        except StoreError as error:
            problems.append(str(error))
    return CheckReport(num_records, len(kept), problems)


async def measure_store(store: Store) -> SizeReport:
    """Count and add up."""
    num_records: Counter[str] = Counter()
    num_bytes: Counter[str] = Counter()
    runs: dict[str, tuple[int, int]] = {}
    async for stored in store.read():
        size = len(msgspec.json.encode(stored.record.body))
        num_records[stored.record.kind] += 1
        num_bytes[stored.record.kind] += size
        number, total = runs.get(stored.record.run, (0, 0))
        runs[stored.record.run] = (number + 1, total + size)
    blobs = sorted([ref async for ref in store.blobs()], key=lambda ref: -ref.size)
    return SizeReport(
        num_records=dict(num_records),
        num_bytes=dict(num_bytes),
        num_blobs=len(blobs),
        num_blob_bytes=sum(ref.size for ref in blobs),
        largest_blobs=blobs[:MAX_SHOWN_BLOBS],
        runs=runs,
        num_occupied_bytes=await store.occupied(),
    )


def blobs_in(value: Any) -> list[BlobRef]:
    """Every mapping in a body that is what a `BlobRef` is written as."""
    found: list[BlobRef] = []
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            match one:
                case {"sha256": str(sha256), "size": int(size)} if _DIGEST.fullmatch(sha256):
                    found.append(BlobRef(sha256, size))
                case _:
                    waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return found
