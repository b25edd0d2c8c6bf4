"""How fast is the store, next to the fastest loop one could write by hand on the same SQLite?

    python -m benchmarks.store_by_hand            # up to 100,000 rows, under a minute
    python -m benchmarks.store_by_hand --million  # adds a store of 1,000,000 rows

The hand-written loop has the same schema, indexes, sync mode and rows, is measured in the same run, in turns with the
store (the best of the rounds counts for both), and commits once per batch, as the store's promise asks. "awaited" is
one writer that waits for each append; "8 writers" are eight such at once, where commits are shared.
`store.py` measures every store at every size, `store_backends.py` several processes and blobs.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.store_rows import batches, make_records
from rich.console import Console
from rich.table import Table

from agentlightning.data.record import Record
from agentlightning.store.base import Cursor, Store
from agentlightning.store.open import open_store
from agentlightning.store.sqlite_file import open_file

BATCHES = {1: 4_000, 50: 20_000, 500: 40_000}
"""Batch size → rows written per measurement."""

ROUNDS = 3
_INSERT = "INSERT INTO records (kind, id, run, rollout, time, version, body) VALUES (?, ?, ?, ?, ?, ?, ?)"


async def write_by_hand(folder: Path, records: list[Record], size: int) -> float:
    """Rows per second of a plain loop: encode, executemany, commit."""
    connection = open_file(folder / "hand.sqlite3", "process")
    started = time.perf_counter()
    for batch in batches(records, size):
        rows = [
            (r.kind, r.id, r.run, r.rollout, r.time, r.version, msgspec.json.encode(r.body).decode()) for r in batch
        ]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_INSERT, rows)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return len(records) / seconds


Way = Callable[[Path, list[Record], int], Awaitable[float]]


async def write_awaited(folder: Path, records: list[Record], size: int) -> float:
    """Rows per second of one writer that waits for each append."""
    return await _write(folder, records, size, num_writers=1)


async def write_together(folder: Path, records: list[Record], size: int) -> float:
    """Rows per second of eight writers, each waiting for its own appends."""
    return await _write(folder, records, size, num_writers=8)


async def _write(folder: Path, records: list[Record], size: int, num_writers: int) -> float:
    store = open_store(folder)
    work = batches(records, size)

    async def writer() -> None:
        for batch in work:
            await store.append(batch)

    started = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(num_writers)))
    seconds = time.perf_counter() - started
    await store.close()
    return len(records) / seconds


async def write_submitted(folder: Path, records: list[Record], size: int) -> float:
    """Rows per second of a recorder: submit everything, wait for the last."""
    store = open_store(folder)
    started = time.perf_counter()
    futures: list[Future[Cursor]] = [store.submit(batch) for batch in batches(records, size)]
    for future in futures:
        future.result()
    seconds = time.perf_counter() - started
    await store.close()
    return len(records) / seconds


async def in_folder(way: Way, records: list[Record], size: int) -> float:
    """Run one measurement in a fresh folder."""
    folder = Path(tempfile.mkdtemp(prefix="store-benchmark-"))
    try:
        return await way(folder, records, size)
    finally:
        shutil.rmtree(folder)


async def append_table() -> Table:
    """Appending, against the loop by hand."""
    table = Table("rows per append", "by hand", "awaited", "8 writers", "submitted", title="append, rows/s")

    for size, num_rows in BATCHES.items():
        records = make_records(0, num_rows)
        ways = (write_by_hand, write_awaited, write_together, write_submitted)
        best = [0.0] * len(ways)
        for _ in range(ROUNDS):
            for i, way in enumerate(ways):
                best[i] = max(best[i], await in_folder(way, records, size))
        ratios = [f"{speed:,.0f} ({speed / best[0]:.2f}×)" for speed in best[1:]]
        table.add_row(str(size), f"{best[0]:,.0f}", *ratios)
    return table


async def read_table(sizes: list[int]) -> Table:
    """Reading from stores of several sizes: all of it, the last 1,000 rows, and by filter."""
    table = Table(
        "rows in store", "read all, by hand", "read all", "last 1,000", "one rollout's steps", "100 rollouts' steps",
        "test split, newest 100", "one kind, none there", title="read, rows/s and milliseconds",
    )  # fmt: skip
    for size in sizes:
        folder = Path(tempfile.mkdtemp(prefix="store-benchmark-"))
        try:
            table.add_row(f"{size:,}", *await _read(folder, size))
        finally:
            shutil.rmtree(folder)
    return table


async def _fill(store: Store, size: int) -> Cursor:
    """Write `size` rows; the cursor stands 1,000 before the end."""
    cursors = [await store.append(make_records(start, start + 1_000)) for start in range(0, size, 1_000)]
    return cursors[-2] if len(cursors) > 1 else Cursor("0")


async def _read(folder: Path, size: int) -> list[str]:
    store = open_store(folder)
    cursor = await _fill(store, size)

    async def seconds(**query: Any) -> float:
        best = float("inf")
        for _ in range(ROUNDS):
            started = time.perf_counter()
            async for _ in store.read(**query):
                pass
            best = min(best, time.perf_counter() - started)
        return best

    middle = size // 20
    rollouts = [f"r-{i}" for i in range(middle, middle + 100)]
    result = [
        f"{size / await asyncio.to_thread(_read_by_hand, folder, size):,.0f} rows/s",
        f"{size / await seconds():,.0f} rows/s",
        f"{1000 / await seconds(since=cursor):,.0f} rows/s",
        f"{await seconds(kind='step', where={'rollout': f'r-{middle}'}) * 1000:.1f} ms",
        f"{await seconds(kind='step', where={'rollout': rollouts}) * 1000:.1f} ms",
        f"{await seconds(kind='rollout', where={'split': 'test'}, newest_first=True, limit=100) * 1000:.1f} ms",
        f"{await seconds(kind='control') * 1000:.1f} ms",
    ]
    await store.close()
    return result


def _read_by_hand(folder: Path, size: int) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        connection = sqlite3.connect(folder / "store.sqlite3")
        started = time.perf_counter()
        rows = connection.execute("SELECT position, kind, id, run, rollout, time, version, body FROM records")
        num_rows = sum(1 for row in rows if msgspec.json.decode(row[-1]))
        best = min(best, time.perf_counter() - started)
        connection.close()
        assert num_rows == size
    return best


async def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Measure the store against plain SQLite.")
    parser.add_argument("--million", action="store_true", help="also read from a store of 1,000,000 rows")
    sizes = [1_000, 10_000, 100_000] + [1_000_000] * parser.parse_args().million
    console = Console(width=160)
    console.print(await append_table())
    console.print(await read_table(sizes))


if __name__ == "__main__":
    asyncio.run(main())
