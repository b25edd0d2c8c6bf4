"""A Parquet file holds everything, can be queried by column, and is refused when it is something else."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.store.rollouts import add, rollout, weather
from tests.store.test_archive import everything, trajectories

from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError, StoreError
from agentlightning.store.archive import ImportReport, import_trajectories
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice
from agentlightning.store.exports.parquet import export_parquet, read_parquet


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(trajectories(), max_size=3))
def test_what_was_exported_and_imported_is_what_was_there(
    tmp_path: Path, store: Store, other: Store, written: list[Trajectory]
) -> None:
    async def scenario() -> None:
        wanted = {"id": [trajectory.id for trajectory in written]}
        await add(store, *written)
        await export_parquet(store, tmp_path / "all.parquet", Choice(where=wanted))
        report = await import_trajectories(other, lambda: read_parquet(tmp_path / "all.parquet"))
        assert report == ImportReport(len(written), 0)
        assert await everything(other, wanted) == written

    asyncio.run(scenario())


def test_columns_can_be_queried_without_parsing_json(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(
            store, weather("r1"), weather("r2", reward=0.2), rollout("r3"), *(rollout(f"m{n}") for n in range(600))
        )
        report = await export_parquet(store, tmp_path / "all.parquet", Choice(where={"id": ["r1", "r2", "r3"]}))
        assert (report.num_rows, report.left_out) == (3, [])
        await export_parquet(store, tmp_path / "good.parquet", Choice(min_reward=0.5))
        await export_parquet(store, tmp_path / "many.parquet", Choice())

    asyncio.run(scenario())
    rows = pq.read_table(tmp_path / "all.parquet").to_pylist()
    assert [row["reward"] for row in rows] == [1.0, 0.2, None]
    assert [step["kind"] for step in rows[0]["steps"]] == ["model", "tool", "model"]
    assert rows[0]["steps"][0]["model"] == "gpt-5" and rows[0]["steps"][0]["input_tokens"] == 10
    assert pq.read_table(tmp_path / "good.parquet").num_rows == 1
    assert len(list(read_parquet(tmp_path / "many.parquet"))) == 603


def test_another_file_is_refused_with_the_missing_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["r1"], "question": ["?"]}), tmp_path / "tasks.parquet")
    with pytest.raises(DataError, match="no export of trajectories: it has no column 'agent_id'"):
        list(read_parquet(tmp_path / "tasks.parquet"))
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(read_parquet(tmp_path / "text.parquet"))


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the export could not be written"):
        asyncio.run(export_parquet(store, tmp_path / "file" / "x.parquet", Choice()))
