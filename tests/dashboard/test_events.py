"""An open page hears of what is appended, in bursts, and of a store that breaks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.dashboard.records import records, rollout

from agentlightning.dashboard.events import changes
from agentlightning.store.open import open_store
from agentlightning.store.trajectories import trajectory_records


def test_a_burst_of_records_is_one_event_that_names_its_runs(tmp_path: Path) -> None:
    async def run() -> list[str]:
        store = open_store(str(tmp_path))
        events = changes(store)
        heard = [await anext(events)]
        await asyncio.sleep(0.3)  # the watch begins with its first look
        await store.append(records())
        await store.append(trajectory_records(rollout("r-live", run="")))
        heard += [await asyncio.wait_for(anext(events), 10)]
        if '""' not in heard[-1]:  # the second append may have come after the first event
            heard += [await asyncio.wait_for(anext(events), 10)]
        await events.aclose()
        await store.close()
        return heard

    first, *news = asyncio.run(run())
    assert first.startswith(":") and all(line.startswith("data: [") and line.endswith("\n\n") for line in news)
    assert '"run-1"' in news[0] and '""' in news[-1]
