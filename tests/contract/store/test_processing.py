"""On every back end a consumer sees each rollout once, and the numbers come out the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.store.rollouts import add, weather

from agentlightning.data.processor import process
from agentlightning.store.archive import ImportReport, export_jsonl, import_jsonl
from agentlightning.store.base import Store
from agentlightning.store.processing import process_new
from agentlightning.store.statistics import statistics, tallies_by_run


def test_a_consumer_sees_each_rollout_once(store: Store) -> None:
    async def scenario() -> None:
        await add(store, *(weather(f"r{n}") for n in range(70)))
        first = await process_new(store, "features", process)
        assert (first.num_new, first.num_changed) == (70, 70)
        assert (await process_new(store, "features", process)).num_new == 0
        await add(store, weather("late"))
        assert (await process_new(store, "features", process)).num_new == 1
        assert (await process_new(store, "other", lambda trajectory: None)).num_new == 71

    asyncio.run(scenario())


def test_numbers_and_archives_are_the_same_everywhere(store: Store, tmp_path: Path) -> None:
    async def scenario() -> None:
        await add(store, weather("r1"), weather("r2", "Blue.", 0.0, split="live"))
        assert (await statistics(store)).total.mean_reward == 0.5
        assert (await statistics(store, {"split": "live"})).total.num_rollouts == 1
        assert (await tallies_by_run(store))[""].num_rollouts == 2
        assert await export_jsonl(store, tmp_path / "all.jsonl") == 2
        assert await import_jsonl(store, tmp_path / "all.jsonl") == ImportReport(0, 2)

    asyncio.run(scenario())
