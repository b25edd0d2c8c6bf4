"""What every store promises about records: appended, filtered, in order, from a cursor on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentlightning.data.record import Record, make_record
from agentlightning.errors import ConfigError, DataError, StoreError
from agentlightning.store.base import Cursor, Store
from agentlightning.store.open import open_store


def log(id: str, body: Any = None, **fields: Any) -> Record:
    return make_record("log", id, body or {}, **fields)


async def ids(store: Store, *args: Any, **query: Any) -> list[str]:
    return [stored.record.id async for stored in store.read(*args, **query)]


def test_a_record_is_read_back_as_it_was_written(store: Store) -> None:
    body = {
        "text": "naïve ⟦slot⟧ 🙂 \u0000 \"quoted\" 'single' \\",
        "n": 2**60,
        "x": 0.1,
        "deep": [{"a": [None, True]}],
    }
    record = Record(kind="step", id="s'1", body=body, run="run;--", rollout="r\n1", time=1700000000.123456, version=1)

    async def scenario() -> None:
        await store.append([record])
        assert [stored.record async for stored in store.read()] == [record]

    asyncio.run(scenario())


def test_records_come_in_the_order_of_their_commits(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log("b"), log("a")])
        await store.append([make_record("metric", "m", {})])
        await store.append([log("c")])
        assert await ids(store) == ["b", "a", "m", "c"]
        assert await ids(store, newest_first=True) == ["c", "m", "a", "b"]
        assert await ids(store, "log") == ["b", "a", "c"]
        assert await ids(store, ["metric", "log", "log"]) == ["b", "a", "m", "c"]
        assert await ids(store, ["log", "metric"], newest_first=True, limit=2) == ["c", "m"]
        assert await ids(store, "control") == await ids(store, []) == await ids(store, limit=0) == []

    asyncio.run(scenario())


def test_a_filter_keeps_the_records_whose_fields_match(store: Store) -> None:
    async def scenario() -> None:
        await store.append(
            [
                make_record("rollout", "r1", {"split": "train", "draw": 1, "features": {"success": True}}, run="a"),
                make_record("rollout", "r2", {"split": "test", "draw": 2, "features": {"success": False}}, run="a"),
                make_record("rollout", "r3", {"split": "test", "draw": 1.5, "status": None}, run="b"),
                make_record("step", "s1", {"kind": "tool"}, run="a", rollout="r1"),
                make_record("step", "s2", {"kind": "model"}, run="a", rollout="r2"),
            ]
        )
        assert await ids(store, "rollout", {"id": "r2"}) == ["r2"]
        assert await ids(store, None, {"run": "a"}) == ["r1", "r2", "s1", "s2"]
        assert await ids(store, "step", {"rollout": ["r2", "r1", "r9"]}) == ["s1", "s2"]
        assert await ids(store, "rollout", {"split": "test"}) == ["r2", "r3"]
        assert await ids(store, "rollout", {"split": ["train", "test"], "run": "a"}) == ["r1", "r2"]
        assert await ids(store, "rollout", {"features.success": True}) == ["r1"]
        assert await ids(store, "rollout", {"features.success": None}) == ["r3"]
        assert await ids(store, "rollout", {"features.success": [False, None]}) == ["r2", "r3"]
        assert await ids(store, "rollout", {"draw": 1}) == ["r1"]
        assert await ids(store, "rollout", {"draw": [1.5, 2]}) == ["r2", "r3"]
        assert await ids(store, "rollout", {"draw": "1"}) == []
        assert await ids(store, "rollout", {"split": []}) == []
        assert await ids(store, ["step", "rollout"], {"run": "a"}, newest_first=True, limit=3) == ["s2", "s1", "r2"]

    asyncio.run(scenario())


def test_a_filter_compares_values_and_never_their_spelling(store: Store) -> None:
    long = "x" * 5000
    bodies = {"long": long, "longer": long + "x", "int": 2, "float": 2.0, "text": "2", "true": True,
              "one": 1, "none": None, "list": [2], "mapping": {"a": 2}, "large": 2**62, "small": -0.5}  # fmt: skip

    async def found(wanted: Any) -> list[str]:
        return await ids(store, "log", {"v": wanted})

    async def scenario() -> None:
        await store.append([log(id, {"v": value, "rest": {"v-1": {"_v": value}}}) for id, value in bodies.items()])
        await store.append([log("without")])
        assert await found(long) == ["long"]
        assert await found([long + "x", "nothing"]) == ["longer"]
        assert await found(2) == await found(2.0) == ["int", "float"]
        assert await found("2") == ["text"]
        assert await found(True) == await found([1]) == ["true", "one"]
        assert await found(2**62) == ["large"]
        assert await found(-0.5) == ["small"]
        assert await found(None) == await found([None]) == ["none", "without"]
        assert await found([None, "2", 2]) == ["int", "float", "text", "none", "without"]
        assert await found(float("inf")) == await found("[2]x") == []
        assert await ids(store, "log", {"v.a": 2}) == ["mapping"]
        assert await ids(store, "log", {"rest.v-1._v": long}) == ["long"]
        assert await ids(store, "log", {"rest": None}) == ["without"]

    asyncio.run(scenario())


def test_a_filter_takes_more_values_than_a_statement_has_parameters(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log("needle", rollout="r-39999")])
        assert await ids(store, "log", {"rollout": [f"r-{i}" for i in range(40_000)]}) == ["needle"]

    asyncio.run(scenario())


@pytest.mark.parametrize("field", ["x') OR 1=1 --", "a..b", "", "a b", 'a"b', "split'", "$.split", "a."])
def test_a_filter_field_that_is_no_path_is_refused(store: Store, field: str) -> None:
    with pytest.raises(ConfigError, match="is no field: expected id, run, rollout, or a path"):
        asyncio.run(ids(store, "rollout", {field: "x"}))


def test_a_filter_value_is_only_ever_a_value(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log("a", {"name": "x' OR '1'='1"}), log("b", {"name": "y"})])
        assert await ids(store, "log", {"name": "x' OR '1'='1"}) == ["a"]
        assert await ids(store, "log", {"id": "' OR 1=1 --"}) == []
        with pytest.raises(ConfigError, match="filter 'name': a value is a string"):
            await ids(store, "log", {"name": {"$ne": 1}})

    asyncio.run(scenario())


def test_an_unknown_kind_is_refused_with_the_nearest_one(store: Store) -> None:
    with pytest.raises(ConfigError, match=r"unknown record kind 'rolout'\. Did you mean 'rollout'"):
        asyncio.run(ids(store, "rolout"))
    with pytest.raises(ConfigError, match="unknown record kind"):
        store.watch("x' OR '1'='1")


def test_every_cursor_splits_the_store_into_before_and_after(store: Store) -> None:
    async def scenario() -> None:
        start = await store.append([])
        appended = [await store.append([log(f"{n}a"), log(f"{n}b")]) for n in range(3)]
        everything = [stored async for stored in store.read(since=start)]
        assert [stored.cursor for stored in everything][1::2] == appended
        assert await store.append([]) == appended[-1]
        for number, stored in enumerate(everything, start=1):
            rest = [later.record.id for later in everything[number:]]
            assert await ids(store, since=stored.cursor) == rest
            assert await ids(store, "log", since=stored.cursor, newest_first=True) == rest[::-1]
            assert await ids(store, since=stored.cursor, limit=2) == rest[:2]

    asyncio.run(scenario())


def test_an_append_of_any_size_is_one_step_of_the_cursor(store: Store) -> None:
    async def scenario() -> None:
        start = await store.append([])
        written: list[str] = []
        for size in (1, 63, 64, 65, 300):
            names = [f"{size}/{n}" for n in range(size)]
            written += names
            cursor = await store.append([log(name) for name in names])
            assert await ids(store, since=start) == written
            assert await ids(store, since=cursor) == []

    asyncio.run(scenario())


def test_a_cursor_from_elsewhere_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="is no cursor"):
        asyncio.run(ids(store, since=Cursor("yesterday")))


def test_reading_sees_the_store_as_it_was_when_it_began(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log(f"{n}") for n in range(1500)])
        seen: list[str] = []
        async for stored in store.read("log"):
            if len(seen) % 400 == 0:
                await store.append([log("late")])
            seen.append(stored.record.id)
        assert seen == [f"{n}" for n in range(1500)]

    asyncio.run(scenario())


def test_a_long_read_gives_every_record_once(store: Store) -> None:
    async def scenario() -> None:
        expected = [f"{n:05}" for n in range(2500)]
        await store.append([log(id, {"n": int(id) % 3, "pad": "x" * (int(id) % 7)}, run="r") for id in expected])
        assert await ids(store) == expected
        assert await ids(store, newest_first=True) == expected[::-1]
        assert await ids(store, "log", {"run": "r"}, limit=1234) == expected[:1234]
        assert await ids(store, None, {"run": ["r", "q"]}, newest_first=True) == expected[::-1]
        assert await ids(store, "log", {"n": [1, 2]}) == [id for id in expected if int(id) % 3]

    asyncio.run(scenario())


def test_long_bodies_are_read_whole(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log(f"{n}", {"text": f"{n}" * 900_000}) for n in range(9)])
        read = [stored.record async for stored in store.read("log")]
        assert [(record.id, len(record.body["text"])) for record in read] == [(f"{n}", 900_000) for n in range(9)]

    asyncio.run(scenario())


def test_a_read_left_halfway_leaves_the_store_as_usable_as_before(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log(f"{n}") for n in range(300)])
        for _ in range(20):
            async for _ in store.read("log"):
                break
        await store.append([log("last")])
        assert len(await ids(store)) == 301

    asyncio.run(scenario())


def test_a_body_is_written_as_it_was_when_it_was_submitted(store: Store) -> None:
    body: dict[str, Any] = {"messages": ["first"]}
    record = Record(kind="log", id="a", body=body, time=0.0)
    future = store.submit([record])
    body["messages"].append("second")
    future.result(timeout=10)

    async def scenario() -> None:
        assert [stored.record.body async for stored in store.read()] == [{"messages": ["first"]}]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (Record(kind="log", id="bad", body={"x": object()}, time=0.0), "cannot be stored as JSON"),
        (Record(kind="log", id="bad", body={"x": "\ud800"}, time=0.0), "cannot be stored as JSON"),
        (Record(kind="log", id="\ud800", body={}, time=0.0), "cannot be stored as JSON"),
        (Record(kind="log", id="bad", body={"a": [None, {"b": float("nan")}]}, time=0.0), r"a\[1\].b is not a finite"),
        (Record(kind="nonsense", id="bad", body={}, time=0.0), "unknown record kind"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_record_that_json_cannot_hold_fails_its_submission_and_no_other(
    store: Store, record: Record, message: str
) -> None:
    async def scenario() -> None:
        before, broken, after = store.submit([log("a")]), store.submit([log("b"), record]), store.submit([log("c")])
        with pytest.raises(DataError, match=message):
            broken.result(timeout=10)
        before.result(timeout=10)
        after.result(timeout=10)
        assert await ids(store) == ["a", "c"]

    asyncio.run(scenario())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)
bodies = st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies)
def test_any_json_body_survives(store: Store, body: dict[str, Any]) -> None:
    async def scenario() -> None:
        before = await store.append([])
        await store.append([log("x", body)])
        assert [stored.record.body async for stored in store.read(since=before)] == [body]

    asyncio.run(scenario())


def test_writers_in_many_threads_keep_their_appends_together(store: Store) -> None:
    def write(thread: int) -> list[Cursor]:
        batches = [[log(f"{thread}/{n}/{part}") for part in range(3)] for n in range(40)]
        return [future.result(timeout=30) for future in [store.submit(batch) for batch in batches]]

    with ThreadPoolExecutor(8) as pool:
        cursors = list(pool.map(write, range(8)))

    async def scenario() -> None:
        read = [stored async for stored in store.read()]
        for start in range(0, len(read), 3):
            group = [stored.record.id for stored in read[start : start + 3]]
            thread, n, _ = group[0].split("/")
            assert group == [f"{thread}/{n}/{part}" for part in range(3)]
        by_thread = {t: [s.cursor for s in read if s.record.id.startswith(f"{t}/")][2::3] for t in range(8)}
        assert by_thread == dict(enumerate(cursors))

    asyncio.run(scenario())


def test_event_loops_in_several_threads_share_one_store(store: Store) -> None:
    async def work(name: str) -> list[str]:
        for n in range(10):
            await store.append([log(f"{name}{n}", run=name)])
        return await ids(store, "log", {"run": name})

    found: dict[str, list[str]] = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: asyncio.run(work(name))})) for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {name: [f"{name}{n}" for n in range(10)] for name in "abcd"}


def test_a_second_opening_of_the_same_address_sees_and_adds_records(store: Store) -> None:
    async def scenario() -> None:
        await store.append([log("first")])
        other = open_store(store.address)
        try:
            await other.append([log("second")])
            assert await ids(other) == await ids(store) == ["first", "second"]
        finally:
            await other.close()
        await store.append([log("third")])
        assert await ids(store) == ["first", "second", "third"]

    asyncio.run(scenario())


def test_a_store_that_is_well_says_so(store: Store) -> None:
    async def scenario() -> None:
        assert await store.verify() == []
        await store.append([log("a"), log("b")])
        await store.append([])
        assert await store.verify() == []

    asyncio.run(scenario())


def test_a_closed_store_refuses_everything_and_says_so(store: Store) -> None:
    async def scenario() -> None:
        ref = await store.put_blob(b"x")
        pending = store.submit([log("a")])
        await store.close()
        assert pending.done()
        await store.close()
        with pytest.raises(StoreError, match=r"is closed. Open it again with open_store"):
            await store.append([log("b")])
        with pytest.raises(StoreError, match="is closed"):
            await ids(store)
        with pytest.raises(StoreError, match="is closed"):
            store.watch()
        with pytest.raises(StoreError, match="is closed"):
            await store.put_blob(b"y")
        with pytest.raises(StoreError, match="is closed"):
            [chunk async for chunk in store.get_blob(ref)]
        with pytest.raises(StoreError, match="is closed"):
            [ref async for ref in store.blobs()]
        with pytest.raises(StoreError, match="is closed"):
            await store.verify()

    asyncio.run(scenario())
