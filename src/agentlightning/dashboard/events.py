"""Server-sent events that say which runs have something new, so that an open page looks again. They carry no data."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from agentlightning.store.base import Store, StoredRecord

QUIET_SECONDS = 0.5
"""Between two events: a page is not asked to look again more often."""
BEAT_SECONDS = 15
"""After so long without news a comment is sent, so that neither side takes the other for gone."""


async def changes(store: Store) -> AsyncGenerator[str]:
    """`data: ["run-…"]` after each burst of records, until closed. What belongs to no run is the run ""."""
    new_runs: set[str] = set()
    has_news = asyncio.Event()
    watching = asyncio.create_task(_follow(store.watch(), new_runs, has_news))
    try:
        yield ": connected\n\n"
        while True:
            waiting = asyncio.create_task(has_news.wait())
            await asyncio.wait({waiting, watching}, timeout=BEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if watching.done():
                watching.result()  # an error of the store ends the stream, and the page tries again
                return
            yield (
                f"data: {msgspec.json.encode(sorted(new_runs)).decode()}\n\n"
                if has_news.is_set()
                else ": still here\n\n"
            )
            new_runs.clear()
            has_news.clear()
            await asyncio.sleep(QUIET_SECONDS)
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _follow(records: AsyncIterator[StoredRecord], new_runs: set[str], has_news: asyncio.Event) -> None:
    async for stored in records:
        new_runs.add(stored.record.run)
        has_news.set()
