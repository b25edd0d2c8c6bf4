"""Old files open, newer records are read as far as they are known, and the written schema is the one in use."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.store.rollouts import add, rollout
from tests.store.test_archive import everything

from agentlightning.data.bodies import BODIES
from agentlightning.data.record import RECORD_KINDS, SCHEMA_VERSION, Record, make_record
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError
from agentlightning.store.archive import ImportReport, import_jsonl
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.schema import record_schemas
from agentlightning.store.trajectories import rollout_record
from agentlightning.store.versions import NewerRecordWarning, read_noun, rewritten, unknown_fields

FIXTURES = Path(__file__).parent / "fixtures"
DOCS = Path(__file__).parents[2] / "docs" / "schema"


def old_records() -> list[Record]:
    """Records of each kind that a training run of version 1 wrote."""
    lines = (FIXTURES / "records-1.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Record) for line in lines]


def test_the_written_schema_is_current() -> None:
    written = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DOCS.glob("*.json")}
    assert written == record_schemas(), "run scripts/write_record_schema.py"


def test_every_kind_of_record_has_a_schema() -> None:
    assert set(BODIES) == set(RECORD_KINDS)
    assert set(record_schemas()) == {"record", *RECORD_KINDS}


@pytest.mark.parametrize("record", old_records(), ids=lambda record: f"{record.kind} {record.id}")
def test_what_a_run_wrote_is_what_its_schema_says(record: Record) -> None:
    body = BODIES[record.kind]
    nouns = [body] if body == dict[str, Any] else list(getattr(body, "__args__", (body,)))
    wanted = [noun for noun in nouns if noun == dict[str, Any] or not unknown_fields(record, noun)]
    assert wanted, f"{record.kind}: {[unknown_fields(record, noun) for noun in nouns]}"
    msgspec.convert(record.body, wanted[0])


def test_an_old_store_opens(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES / "store-1", tmp_path / "store")

    async def scenario() -> None:
        store = open_store(tmp_path / "store")
        assert [stored.record async for stored in store.read()] == old_records()
        first, last = await everything(store)
        assert first.steps[0].call and first.rewards[-1].source == "human"
        await add(store, last)
        await store.close()

    asyncio.run(scenario())


def test_an_old_archive_is_imported(store: Store) -> None:
    async def scenario() -> None:
        assert await import_jsonl(store, FIXTURES / "trajectories-1.jsonl") == ImportReport(2, 0)
        assert [t.status for t in await everything(store)] == ["succeeded", "succeeded"]

    asyncio.run(scenario())


def newer(body: dict[str, Any]) -> Record:
    return Record(kind="rollout", id="r", rollout="r", body=body, time=1.0, version=SCHEMA_VERSION + 1)


def test_a_newer_record_is_read_as_far_as_known_and_says_so(store: Store) -> None:
    record = newer({**rollout_record(rollout("r", reward=0.5)).body, "mood": "sunny"})

    async def scenario() -> None:
        await store.append([record])
        with pytest.warns(NewerRecordWarning, match=r"rollout 'r' was written by a newer release .*Left aside: mood"):
            [found] = await everything(store)
        assert found.reward == 0.5

    asyncio.run(scenario())


def test_a_newer_record_that_makes_no_sense_here_asks_for_an_upgrade() -> None:
    with pytest.raises(DataError, match=r"newer release wrote it \(record version 2.*pip install -U"):
        read_noun(newer({"id": "r", "status": "dreaming"}), Trajectory)


def test_unknown_fields_survive_being_read_and_written(store: Store) -> None:
    record = newer({**rollout_record(rollout("r")).body, "mood": "sunny"})

    async def scenario() -> None:
        await store.append([record])
        [read] = [stored.record async for stored in store.read("rollout")]
        await store.append([read])
        assert [stored.record async for stored in store.read("rollout")] == [record, record]

    asyncio.run(scenario())
    with pytest.warns(NewerRecordWarning):
        noun = msgspec.structs.replace(read_noun(record, Trajectory), reward=1.0)
    again = rewritten(record, noun, without=("steps",))
    assert (again.body["mood"], again.body["reward"], again.version) == ("sunny", 1.0, 2)
    assert "steps" not in again.body


def test_a_record_of_ours_has_no_unknown_fields() -> None:
    assert unknown_fields(make_record("rollout", "r", rollout("r")), Trajectory) == []
