"""agentlightning 0.3.0's stores, measured like ours; run by its own interpreter (`benchmarks/store.py --peer`).

Spans of about 1.5 KB, ten to a rollout, in batches of 500. A batch here means one `add_many_spans`; the in-memory store
keeps nothing on disk. It has no cursor and no watch, so those columns are empty.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import statistics
import sys
import time
from typing import Any

logging.disable(logging.WARNING)

from agentlightning.store.client_server import LightningStoreClient, LightningStoreServer  # noqa: E402
from agentlightning.store.memory import InMemoryLightningStore  # noqa: E402
from agentlightning.types import OtelResource, Span, TraceStatus  # noqa: E402

BATCH, PER_ROLLOUT, NUM_QUERIES = 500, 10, 20
TEXT = "what is the capital of this country? " * 36


def span(rollout: Any, number: int) -> Span:
    return Span(
        rollout_id=rollout.rollout_id, attempt_id=rollout.attempt.attempt_id, sequence_id=number % PER_ROLLOUT,
        trace_id=f"{number // PER_ROLLOUT:032x}", span_id=f"{number:016x}", parent_id=None, name="openai.chat",
        status=TraceStatus(status_code="OK"), attributes={"input": f"Question {number}: {TEXT}"}, events=[], links=[],
        start_time=time.time(), end_time=time.time(), context=None, parent=None,
        resource=OtelResource(attributes={}, schema_url=""),
    )  # fmt: skip


async def measure(name: str, store: Any, sizes: list[int], limit_seconds: float) -> None:
    rollouts: list[str] = []
    filled, rate = 0, float("inf")
    for size in sizes:
        if (size - filled) / rate > limit_seconds:
            print(json.dumps([name, f"{size:,}", f"left out: {(size - filled) / rate / 60:.0f} min", *[""] * 6]))
            return
        seconds = cpu = 0.0
        for start in range(filled, size, BATCH):
            begun = [await store.start_rollout(input={"n": n}) for n in range(start, start + BATCH, PER_ROLLOUT)]
            rollouts += [rollout.rollout_id for rollout in begun]
            spans = [span(begun[n // PER_ROLLOUT], start + n) for n in range(BATCH)]
            began, cpu_began = time.perf_counter(), time.process_time()
            await store.add_many_spans(spans)
            seconds += time.perf_counter() - began
            cpu += time.process_time() - cpu_began
        num, filled = size - filled, size
        rate = num / seconds
        step = max(1, len(rollouts) // NUM_QUERIES)
        reads: list[float] = []
        for rollout in rollouts[::step]:
            began = time.perf_counter()
            found = await store.query_spans(rollout)
            reads.append((time.perf_counter() - began) * 1000)
            assert len(found) == PER_ROLLOUT, len(found)
        cells = [
            f"{num / seconds:,.0f}",
            f"{cpu / num * 1e6:.0f}",
            "",
            f"{statistics.median(reads):.1f} ms",
            "",
            "",
            "",
        ]
        print(json.dumps([name, f"{size:,}", *cells]), flush=True)


async def main() -> None:
    sizes, limit = [int(text) for text in sys.argv[1].split(",")], float(sys.argv[2])
    await measure("0.3.0, in memory", InMemoryLightningStore(), sizes, limit)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = LightningStoreServer(InMemoryLightningStore(thread_safe=True), host="127.0.0.1", port=port)
    await server.start()
    client = LightningStoreClient(f"http://127.0.0.1:{port}")
    await measure("0.3.0, over HTTP", client, sizes, limit)
    await client.close()
    await server.stop()


asyncio.run(main())
