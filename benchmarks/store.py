"""Every store at 1,000 to 1,000,000 rows: appending, a filtered read, an incremental read, a live tail.

    python -m benchmarks.store                                 # all that this machine can start; about half an hour
    python -m benchmarks.store sqlite postgres --rows 100000   # some of them, up to a size
    python -m benchmarks.store --peer side/bin/python          # agentlightning 0.3.0 too, which is installed there

A store grows from size to size, in batches of 500 rows of about 1.5 KB that are waited for. Beside SQLite, in turns
with it, a loop by hand appends the same rows to the same schema in the same sync mode; `ratio` compares processor time.
A size whose filling would take longer than --limit seconds is left out, and said so. PostgreSQL flushes each commit; S3
and Azure are emulators on this machine (moto, Azurite), whose own time is most of theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.store_backends import places
from benchmarks.store_rows import make_records
from rich.console import Console
from rich.table import Table

from agentlightning.data.record import Record, make_record
from agentlightning.store.base import Cursor, Store
from agentlightning.store.open import open_store
from agentlightning.store.sqlite_file import open_file

SIZES = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 500
NUM_QUERIES = 20
NUM_TAILS = 5
COLUMNS = ("append, rows/s", "CPU µs/row", "ratio", "one rollout", "newest 100", "last 1,000", "live tail")
_INSERT = "INSERT INTO records (kind, id, run, rollout, time, version, body) VALUES (?, ?, ?, ?, ?, ?, ?)"


class ByHand:
    """The fastest plain loop: encode, executemany, commit."""

    def __init__(self, folder: Path) -> None:
        self._connection = open_file(folder / "hand.sqlite3", "process")
        self.cpu_seconds = 0.0

    def append(self, batch: list[Record]) -> None:
        started = time.process_time()
        rows = [
            (r.kind, r.id, r.run, r.rollout, r.time, r.version, msgspec.json.encode(r.body).decode()) for r in batch
        ]
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(_INSERT, rows)
        self._connection.execute("COMMIT")
        self.cpu_seconds += time.process_time() - started

    def close(self) -> sqlite3.Connection:
        self._connection.close()
        return self._connection


async def measure(name: str, address: str, sizes: list[int], limit_seconds: float) -> Iterator[list[str]]:
    """A row of cells for each size, printed as they come."""
    folder = Path(tempfile.mkdtemp(prefix="by-hand-"))
    store, other = open_store(address), open_store(address)
    hand = ByHand(folder) if name == "sqlite" else None
    rows: list[list[str]] = []
    filled, rate = 0, float("inf")
    try:
        for size in sizes:
            if (size - filled) / rate > limit_seconds:
                rows.append([name, f"{size:,}", f"left out: {(size - filled) / rate / 60:.0f} min", *[""] * 6])
                break
            cells, rate = await _grow(store, hand, filled, size)
            filled = size
            cells += [*await _reads(store, size), await _tail(store, other)]
            rows.append([name, f"{size:,}", *cells])
            print(" | ".join(rows[-1]), flush=True)
    finally:
        await store.close()
        await other.close()
        if hand:
            hand.close()
        shutil.rmtree(folder)
    return iter(rows)


async def _grow(store: Store, hand: ByHand | None, filled: int, size: int) -> tuple[list[str], float]:
    """Append up to a size: rows per second, processor time for each, and that of the loop by hand beside it."""
    seconds = cpu_seconds = 0.0
    by_hand = hand.cpu_seconds if hand else 0.0
    for start in range(filled, size, BATCH):
        batch = make_records(start, start + BATCH)
        began, cpu_began = time.perf_counter(), time.process_time()
        await store.append(batch)
        seconds += time.perf_counter() - began
        cpu_seconds += time.process_time() - cpu_began
        if hand:
            hand.append(batch)
    num = size - filled
    ratio = f"{(hand.cpu_seconds - by_hand) / cpu_seconds:.2f}×" if hand else ""
    return [f"{num / seconds:,.0f}", f"{cpu_seconds / num * 1e6:.0f}", ratio], num / seconds


async def _reads(store: Store, size: int) -> list[str]:
    """One rollout's steps, the newest hundred of a split, and what came since a cursor."""
    step = max(1, size // 10 // NUM_QUERIES)
    one = [await _milliseconds(store, kind="step", where={"rollout": f"r-{n * step}"}) for n in range(NUM_QUERIES)]
    newest = [
        await _milliseconds(store, kind="rollout", where={"split": "test"}, newest_first=True, limit=100)
        for _ in range(5)
    ]
    cursor = Cursor("")
    async for stored in store.read(newest_first=True, limit=1_001):
        cursor = stored.cursor
    since = [await _milliseconds(store, since=cursor) for _ in range(5)]
    return [f"{statistics.median(values):.1f} ms" for values in (one, newest, since)]


async def _milliseconds(store: Store, **query: Any) -> float:
    started = time.perf_counter()
    async for _ in store.read(**query):
        pass
    return (time.perf_counter() - started) * 1000


async def _tail(store: Store, other: Store) -> str:
    """How long after one store object's append another's watcher has the row."""
    watching = other.watch(since=await store.append([]))
    delays: list[float] = []
    for n in range(NUM_TAILS):
        arriving = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0.31)
        started = time.perf_counter()
        await store.append([make_record("control", f"tail-{n}", {})])
        await arriving
        delays.append((time.perf_counter() - started) * 1000)
    await watching.aclose()  # pyright: ignore[reportAttributeAccessIssue]
    return f"{statistics.median(delays):.0f} ms"


def peer(python: str, sizes: list[int], limit_seconds: float) -> Iterator[list[str]]:
    """The same of the other package's stores, in its own environment."""
    script = Path(__file__).with_name("store_peer.py")
    sizes_text = ",".join(str(size) for size in sizes if size <= 100_000)
    done = subprocess.run(
        [python, str(script), sizes_text, str(limit_seconds)], stdout=subprocess.PIPE, text=True, check=True
    )
    for line in done.stdout.splitlines():
        if line.startswith("["):
            print(" | ".join(json.loads(line)), flush=True)
            yield json.loads(line)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure every store at every size.")
    parser.add_argument("stores", nargs="*", help="of sqlite, segments, postgres, s3, azure; all when none is named")
    parser.add_argument("--rows", type=int, default=SIZES[-1])
    parser.add_argument("--limit", type=float, default=300, help="seconds that filling a store up to a size may take")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has agentlightning 0.3.0")
    options = parser.parse_args()
    sizes = [size for size in SIZES if size <= options.rows]
    table = Table("store", "rows", *COLUMNS)
    for name, address in places([]).items():
        if not options.stores or name.partition(" ")[0] in options.stores:
            for row in asyncio.run(measure(name, address, sizes, options.limit)):
                table.add_row(*row)
    for row in peer(options.peer, sizes, options.limit) if options.peer else ():
        table.add_row(*row)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
