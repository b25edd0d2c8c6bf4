"""Every back end side by side: appending, alone and from four processes, reading, and blobs.

    python -m benchmarks.store_backends                    # what this machine can start, servers in temporary folders
    python -m benchmarks.store_backends postgresql://… …   # and these addresses; each must be an empty store

The services are emulators on this machine (moto, Azurite), so S3 and Azure show our own cost and theirs, no network.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.store_rows import batches, make_records
from rich.console import Console
from rich.table import Table

from agentlightning.store.base import Store
from agentlightning.store.open import open_store

BLOB_BYTES = 64 << 20
NUM_PROCESSES = 4

ANOTHER_PROCESS = """
import asyncio, sys
sys.path.insert(0, sys.argv[4])
from benchmarks.store_rows import batches, make_records
from agentlightning.store.open import open_store

async def main(address, start, num_rows):
    store = open_store(address)
    work = list(batches(make_records(start, start + num_rows), 500))
    print("ready", flush=True)
    sys.stdin.readline()
    for batch in work:
        await store.append(batch)
    await store.close()

asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def places(given: list[str]) -> dict[str, str]:
    """Name → address of an empty store, of every back end that can be opened here."""
    from tests import store_servers as servers

    folder = tempfile.mkdtemp(prefix="store-benchmark-")
    atexit.register(shutil.rmtree, folder)
    os.environ["AGENTLIGHTNING_CACHE"] = f"{folder}/cache"
    found = {"sqlite": f"{folder}/sqlite", "segments": f"segments:///{folder}/segments"}
    starts: dict[str, Callable[[], Any]] = {
        "postgres": lambda: servers.empty_schema(servers.own_cluster(flushes=True).url()),
        "s3 (moto)": servers.s3,
        "azure (Azurite)": servers.azure,
    }
    for name, start in starts.items():
        try:
            place = start()
        except BaseException as error:  # noqa: BLE001  pytest's skip is no Exception
            print(f"{name} is left out: {error}")
            continue
        os.environ.update(place.environment)
        found[name] = place.address
    return found | {address.partition("?")[0]: address for address in given}


async def backends_table(given: list[str]) -> Table:
    """One row for each back end."""
    table = Table(
        "back end", "1 row, awaited", "1 row, 8 writers", "500 rows, awaited", "500 rows, submitted",
        f"500 rows, {NUM_PROCESSES} processes", "read all", "last 1,000", "100 rollouts' steps", "blob in", "blob out",
        title="rows/s, milliseconds, MiB/s",
    )  # fmt: skip
    for name, address in places(given).items():
        table.add_row(name, *await _measure(address))
    return table


async def _measure(address: str) -> list[str]:
    store = open_store(address)
    await store.append(make_records(0, 10))
    cells = [
        await _append(store, 1, 200, num_writers=1),
        await _append(store, 1, 1_000, num_writers=8),
        await _append(store, 500, 10_000, num_writers=1),
        await _append(store, 500, 20_000, num_writers=40),
    ]
    cells.append(await asyncio.to_thread(_processes, store.address, 20_000))
    cursor = await store.append([])
    await store.append(make_records(0, 1_000))
    num_rows = len([None async for _ in store.read()])
    texts = [f"{cell:,.0f}" for cell in cells]
    texts.append(f"{num_rows / await _seconds(store):,.0f}")
    texts.append(f"{1000 / await _seconds(store, since=cursor):,.0f}")
    rollouts = [f"r-{n}" for n in range(100, 200)]
    texts.append(f"{await _seconds(store, kind='step', where={'rollout': rollouts}) * 1000:.1f} ms")
    texts += await _blob(store)
    await store.close()
    return texts


async def _append(store: Store, size: int, num_rows: int, num_writers: int) -> float:
    work = batches(make_records(0, num_rows), size)

    async def writer() -> None:
        for batch in work:
            await store.append(batch)

    started = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(num_writers)))
    return num_rows / (time.perf_counter() - started)


def _processes(address: str, num_rows: int) -> float:
    here = str(Path(__file__).resolve().parents[1])
    each = num_rows // NUM_PROCESSES
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ANOTHER_PROCESS, address, str(number * each), str(each), here],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(NUM_PROCESSES)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout and process.stdout.readline() == "ready\n"
    started = time.perf_counter()
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.close()
    for process in processes:
        assert process.wait() == 0
        assert process.stdout
        process.stdout.close()
    return each * NUM_PROCESSES / (time.perf_counter() - started)


async def _seconds(store: Store, **query: Any) -> float:
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        async for _ in store.read(**query):
            pass
        best = min(best, time.perf_counter() - started)
    return best


async def _blob(store: Store) -> list[str]:
    content = os.urandom(1 << 20)
    started = time.perf_counter()
    ref = await store.put_blob(content for _ in range(BLOB_BYTES >> 20))
    written = time.perf_counter()
    async for _ in store.get_blob(ref):
        pass
    read = time.perf_counter()
    mib = BLOB_BYTES >> 20
    return [f"{mib / (written - started):,.0f} MiB/s", f"{mib / (read - written):,.0f} MiB/s"]


if __name__ == "__main__":
    Console(width=200).print(asyncio.run(backends_table(sys.argv[1:])))
