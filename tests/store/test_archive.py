"""What is exported can be imported again, to the last detail; what is broken is refused as a whole."""

from __future__ import annotations

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.data.record import make_record
from agentlightning.data.task import Split
from agentlightning.data.trajectory import ErrorTag, Features, Reward, RolloutStatus, Step, Trajectory
from agentlightning.errors import DataError, StoreError
from agentlightning.store.archive import ImportReport, export_jsonl, import_jsonl
from agentlightning.store.base import Store
from agentlightning.store.trajectories import read_trajectories, trajectory_records

text = st.text(st.characters(codec="utf-8"), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | number | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
json_object = st.dictionaries(text, json_value, max_size=3)
token_ids = st.none() | st.lists(st.integers(0, 200_000), max_size=3)
usage = st.builds(Usage, *[st.integers(0, 9999)] * 4)
call = st.builds(
    Call, text, text, st.lists(json_object, max_size=2), st.lists(json_object, max_size=2), json_object, st.booleans()
)
logprobs = st.none() | st.lists(number, max_size=3)
reply = st.builds(Reply, json_object, st.none() | text, st.none() | usage, text, token_ids, token_ids, logprobs)
reward = st.builds(
    Reward, number, st.none() | text, text, st.sampled_from(["function", "judge", "human"]), st.booleans()
)
features = st.builds(Features, text, st.none() | st.booleans(), st.lists(st.builds(ErrorTag, text, st.none(), text)))


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    id = f"r-{uuid.uuid4().hex}"
    steps = [
        Step(
            id=draw(text) + str(index),
            rollout_id=id,
            index=index,
            kind=draw(st.sampled_from(["model", "tool", "function"])),
            agent=draw(text),
            started_at=draw(number),
            latency_seconds=draw(st.none() | number),
            call=draw(st.none() | call),
            reply=draw(st.none() | reply),
            arguments=draw(json_value),
            result=draw(json_value),
            error=draw(st.none() | text),
            retry=draw(st.integers(0, 3)),
            is_partial=draw(st.booleans()),
            steered_sites=draw(st.lists(text, max_size=2)),
            logprobs=draw(logprobs),
        )
        for index in range(draw(st.integers(0, 3)))
    ]
    return Trajectory(
        id=id,
        agent_id=draw(text),
        task=draw(text),
        input=draw(text | json_object),
        output=draw(json_value),
        reward=draw(st.none() | number),
        timestamp=draw(number),
        run_id=draw(text),
        split=draw(st.sampled_from(get_args(Split))),
        status=draw(st.sampled_from(get_args(RolloutStatus))),
        error=draw(st.none() | text),
        expected=draw(json_value),
        metadata=draw(json_object),
        steps=steps,
        rewards=draw(st.lists(reward, max_size=2)),
        features=draw(st.none() | features),
        usage=draw(usage),
        usd=draw(st.none() | number),
    )


async def everything(store: Store, where: dict[str, Any] | None = None) -> list[Trajectory]:
    return [trajectory async for trajectory in read_trajectories(store, where)]


async def add(store: Store, *added: Trajectory) -> None:
    await store.append([record for item in added for record in trajectory_records(item, with_steps=True)])


def rollout(id: str, **fields: Any) -> Trajectory:
    return Trajectory(id=id, agent_id="a", task="t", input="hello", timestamp=1.0, **fields)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(trajectories(), max_size=3))
def test_what_was_exported_and_imported_is_what_was_there(
    tmp_path: Path, store: Store, other: Store, written: list[Trajectory]
) -> None:
    async def scenario() -> None:
        wanted = {"id": [trajectory.id for trajectory in written]}
        await add(store, *written)
        assert await export_jsonl(store, tmp_path / "all.jsonl", wanted) == len(written)
        assert await import_jsonl(other, tmp_path / "all.jsonl") == ImportReport(len(written), 0)
        assert await everything(other, wanted) == await everything(store, wanted) == written

    asyncio.run(scenario())


def test_each_line_is_one_standard_record_with_its_steps_and_feedback(tmp_path: Path, store: Store) -> None:
    step = Step(id="s", rollout_id="r1", index=0, kind="tool", agent="a", started_at=1.0, name="search")

    async def scenario() -> None:
        await add(store, rollout("r1", steps=[step], output="line\nbreak\u2028"), rollout("r2", split="test"))
        await store.append([make_record("feedback", "f", Reward(1.0, source="human"), rollout="r1")])
        assert await export_jsonl(store, tmp_path / "all.jsonl") == 2
        assert await export_jsonl(store, tmp_path / "test.jsonl", {"split": "test"}) == 1

    asyncio.run(scenario())
    lines = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().split("\n")[:-1]]
    assert [line["id"] for line in lines] == ["r1", "r2"]
    assert {"agent_id", "task", "input", "output", "timestamp"} <= lines[0].keys()
    assert lines[0]["steps"][0]["name"] == "search"
    assert lines[0]["rewards"] == [{"value": 1.0, "source": "human"}]


def test_importing_again_changes_nothing(tmp_path: Path, store: Store, other: Store) -> None:
    async def scenario() -> None:
        written = [rollout(f"r{n}") for n in range(150)]
        await add(store, *written)
        await export_jsonl(store, tmp_path / "all.jsonl")
        await add(other, written[3])
        assert await import_jsonl(other, tmp_path / "all.jsonl") == ImportReport(149, 1)
        before = await other.append([])
        assert await import_jsonl(other, tmp_path / "all.jsonl") == ImportReport(0, 150)
        assert await other.append([]) == before
        assert len(await everything(other)) == 150

    asyncio.run(scenario())


def test_a_rollout_twice_in_one_file_is_imported_once(tmp_path: Path, store: Store) -> None:
    lines = [msgspec.json.encode(rollout("r1", output=output)) for output in ("first", "second")]
    (tmp_path / "twice.jsonl").write_bytes(b"\n\n".join(lines))

    async def scenario() -> None:
        assert await import_jsonl(store, tmp_path / "twice.jsonl") == ImportReport(1, 1)
        assert [trajectory.output for trajectory in await everything(store)] == ["first"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "r9", "agent_id": "a"', "truncated"),
        (b'{"id": "r9", "agent_id": "a", "task": "t", "input": 3, "timestamp": 1}', r"\$\.input"),
        (b'{"messages": []}', "missing required field `id`"),
        (b'"r9"', "Expected `object`"),
        (b"\xff\xfe{", "malformed"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_imported(
    tmp_path: Path, store: Store, line: bytes, message: str
) -> None:
    good = [msgspec.json.encode(rollout(f"r{n}")) for n in range(200)]
    (tmp_path / "broken.jsonl").write_bytes(b"\n".join([*good[:150], line, *good[150:]]))

    async def scenario() -> None:
        with pytest.raises(
            DataError, match=rf"broken\.jsonl line 151: .*{message}.*Nothing was imported. Expected one"
        ):
            await import_jsonl(store, tmp_path / "broken.jsonl")
        assert await everything(store) == []

    asyncio.run(scenario())


def test_a_missing_file_is_a_data_error(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl cannot be read: No such file"):
        asyncio.run(import_jsonl(store, tmp_path / "nowhere.jsonl"))


def test_an_export_that_fails_leaves_the_earlier_file_alone(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, rollout("r1"))
        await export_jsonl(store, tmp_path / "all.jsonl")
        before = (tmp_path / "all.jsonl").read_bytes()
        await store.append([make_record("rollout", "broken", {"id": 3})])
        with pytest.raises(DataError, match="does not read as a Trajectory"):
            await export_jsonl(store, tmp_path / "all.jsonl")
        assert (tmp_path / "all.jsonl").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["all.jsonl"]

    asyncio.run(scenario())


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path: Path, store: Store) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"all\.jsonl: the export could not be written"):
        asyncio.run(export_jsonl(store, tmp_path / "file" / "all.jsonl"))
