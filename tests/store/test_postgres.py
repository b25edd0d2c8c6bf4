"""PostgreSQL: commits in order whoever is slow, connections lost and found, users who may not, secrets kept."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import string
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.store_servers import Cluster, Wire, empty_schema, own_cluster

from agentlightning.data.record import Record, make_record
from agentlightning.errors import ConfigError, DataError, StoreError
from agentlightning.store import postgres as postgres_module
from agentlightning.store import postgres_server
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.postgres_query import PostgresQuery


@pytest.fixture
def cluster() -> Cluster:
    return own_cluster()


@pytest.fixture
def address(cluster: Cluster) -> str:
    """An empty schema on our own server."""
    return empty_schema(cluster.url()).address


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = open_store(address)
    yield opened
    close(opened)


def close(store: Store) -> None:
    asyncio.run(store.close())


def log(id: str) -> Record:
    return make_record("log", id, {"text": "x" * 100})


def append(store: Store, *ids: str) -> str:
    return store.submit([log(id) for id in ids]).result(timeout=30)


def ids(store: Store, **query: Any) -> list[str]:
    async def read() -> list[str]:
        return [stored.record.id async for stored in store.read(**query)]

    return asyncio.run(read())


def schema_of(address: str) -> str:
    return address.partition("schema=")[2]


def admin(cluster: Cluster) -> psycopg.Connection[Any]:
    return psycopg.connect(cluster.url(), autocommit=True)


# ── the order of commits ──


def test_a_commit_that_is_held_open_is_not_skipped_by_those_behind_it(cluster: Cluster, address: str) -> None:
    store, schema = open_store(address), schema_of(address)
    start = append(store, "first")
    with admin(cluster) as slow:
        slow.execute("BEGIN")
        row = {
            "kind": "log",
            "id": "slow",
            "run": "",
            "rollout": "",
            "time": 0,
            "version": 1,
            "body": "{}",
            "fields": {},
        }
        slow.execute(postgres_module._insert(schema, "any"), [1, 1, json.dumps([row])])
        behind = store.submit([log("behind")])
        time.sleep(0.3)
        assert not behind.done(), "it was given a position after one that may still come"
        assert ids(store, since=start) == []
        slow.execute("COMMIT")
    cursor = behind.result(timeout=10)
    assert ids(store, since=start) == ["slow", "behind"]
    assert append(store) == cursor
    close(store)


def test_a_transaction_of_somebody_else_holds_nobody_up(cluster: Cluster, store: Store) -> None:
    with admin(cluster) as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_current_xact_id()")
        start = append(store)
        append(store, "a")
        assert ids(store, since=start) == ["a"]
        other.execute("ROLLBACK")


def test_four_processes_worth_of_writers_leave_no_gap_for_a_reader_who_follows(address: str) -> None:
    stores = [open_store(address) for _ in range(4)]

    def write(number: int) -> None:
        for n in range(25):
            append(stores[number], f"{number}/{n}a", f"{number}/{n}b")

    async def follow(reader: Store) -> list[str]:
        async with asyncio.timeout(60):
            watching = reader.watch("log", since=start)
            return [(await anext(watching)).record.id for _ in range(200)]

    reader = open_store(address)
    start = append(reader)
    with ThreadPoolExecutor(5) as pool:
        following = pool.submit(lambda: asyncio.run(follow(reader)))
        list(pool.map(write, range(4)))
        seen = following.result(timeout=60)
    assert seen == ids(reader)
    for one in [*stores, reader]:
        close(one)


def test_a_watcher_is_told_at_once_what_others_write(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "WATCH_SECONDS", 3600)

    async def scenario() -> float:
        mine, other = open_store(address), open_store(address)
        watching = mine.watch()
        started = time.monotonic()
        for n in range(5):
            waiting = asyncio.ensure_future(anext(watching))
            await asyncio.sleep(0.05)
            await other.append([log(str(n))])
            async with asyncio.timeout(20):
                assert (await waiting).record.id == str(n)
        await mine.close()
        await other.close()
        return time.monotonic() - started

    assert asyncio.run(scenario()) < 10


# ── connections ──


def wired(wire: Wire, address: str) -> str:
    return f"postgresql://postgres@127.0.0.1:{wire.port}/postgres?schema={schema_of(address)}"


def test_connections_the_server_ended_are_replaced(cluster: Cluster, address: str) -> None:
    async def scenario() -> None:
        store = open_store(address)
        watching = store.watch()
        ref = await store.put_blob(b"weights")
        await store.append([log("a")])
        assert (await anext(watching)).record.id == "a"
        for n in range(3):
            with admin(cluster) as other:
                other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            await store.append([log(f"b{n}")])
            assert (await anext(watching)).record.id == f"b{n}"
        assert [chunk async for chunk in store.get_blob(ref)] == [b"weights"]
        with admin(cluster) as other:
            other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert await store.put_blob([b"wei", b"ghts"]) == ref
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("is_delivered", [True, False])
def test_a_commit_whose_answer_was_lost_is_done_once(cluster: Cluster, address: str, is_delivered: bool) -> None:
    with Wire(cluster.port) as wire:
        store = open_store(wired(wire, address))
        for n in range(4):
            wire.cut(b"COMMIT\0", is_delivered=is_delivered)
            cursor = append(store, f"{n}a", f"{n}b")
            assert cursor == str(2 * n + 2)
        assert wire.num_cut == 4
        assert ids(store) == [f"{n}{part}" for n in range(4) for part in "ab"]
        close(store)


def test_records_cut_off_before_their_commit_are_sent_again(cluster: Cluster, address: str) -> None:
    with Wire(cluster.port) as wire:
        store = open_store(wired(wire, address))
        wire.cut(b"WITH counter", is_delivered=True)
        append(store, "a")
        assert wire.num_cut == 1
        assert ids(store) == ["a"]
        close(store)


def test_a_server_that_is_down_is_waited_for_then_named(
    cluster: Cluster, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(address)
    append(store, "before")
    monkeypatch.setattr(postgres_server, "RECONNECT_SECONDS", 0.5)
    cluster.stop()
    try:
        with pytest.raises(StoreError, match=r"could not be reached: .*Is the server running, and reachable from here"):
            append(store, "lost")
        with pytest.raises(StoreError, match="Is the server running"):
            ids(store)
        with pytest.raises(StoreError, match="could not be reached"):
            open_store(address)
    finally:
        cluster.start()
    append(store, "after")
    assert ids(store) == ["before", "after"]
    close(store)


def test_a_crash_of_the_server_loses_and_repeats_nothing(cluster: Cluster, address: str) -> None:
    store = open_store(address)
    is_over = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not is_over.is_set():
            append(store, f"{len(written)}")
            written.append(f"{len(written)}")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        for _ in range(2):
            time.sleep(0.3)
            cluster.stop(signal.SIGQUIT)
            cluster.start()
        time.sleep(0.2)
        is_over.set()
        writing.result(timeout=60)
    assert ids(store) == written
    close(store)


def test_a_closed_store_leaves_no_connection(cluster: Cluster, address: str) -> None:
    async def scenario() -> None:
        store = open_store(f"{address}&application_name=closing")
        watching = store.watch()
        await asyncio.gather(*(store.append([log(str(n))]) for n in range(5)))
        await anext(watching)
        await store.close()

    asyncio.run(scenario())
    with admin(cluster) as connection:
        select = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'"
        deadline = time.monotonic() + 5
        while (left := connection.execute(select).fetchone()) != (0,) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert left == (0,)


def test_a_lock_held_too_long_is_an_error_that_names_the_remedy(
    cluster: Cluster, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "LOCK_SECONDS", 1)
    store = open_store(address)
    with admin(cluster) as other:
        other.execute("BEGIN")
        other.execute(f"SELECT FROM {schema_of(address)}.store FOR UPDATE".encode())
        with pytest.raises(StoreError, match=r"lock timeout.*find it in pg_stat_activity"):
            append(store, "a")
        other.execute("ROLLBACK")
    append(store, "b")
    assert ids(store) == ["b"]
    close(store)


# ── who may, and with what ──


@pytest.fixture
def login(cluster: Cluster, address: str) -> Iterator[str]:
    """The address of the same schema for a user with the password `p@ss/w0rd`, which stands in it."""
    close(open_store(address))
    with admin(cluster) as connection:
        connection.execute("CREATE ROLE with_password LOGIN PASSWORD 'p@ss/w0rd'")
        connection.execute(f"GRANT USAGE ON SCHEMA {schema_of(address)} TO with_password".encode())
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema_of(address)} TO with_password".encode())
    yield f"postgresql://with_password:p%40ss%2Fw0rd@127.0.0.1:{cluster.port}/postgres?schema={schema_of(address)}"
    with admin(cluster) as connection:
        connection.execute("DROP OWNED BY with_password")
        connection.execute("DROP ROLE with_password")


def test_the_password_is_never_shown(login: str) -> None:
    store = open_store(login)
    assert "with_password:***@127.0.0.1" in store.address
    with pytest.raises(StoreError) as caught:
        append(store, "a")
    close(store)
    with pytest.raises(StoreError) as refused:
        open_store(login.replace("w0rd", "wrong"))
    with pytest.raises(ConfigError) as broken:
        open_store(login.replace("/postgres?", "/postgres?nonsense=1&"))
    for text in (store.address, str(caught.value), str(refused.value), str(broken.value)):
        assert "p%40ss" not in text and "p@ss" not in text and "w0rd" not in text
    assert "Check user and password" in str(refused.value)
    assert 'invalid URI query parameter: "nonsense"' in str(broken.value)


def test_a_masked_address_says_where_the_password_may_come_from(login: str) -> None:
    with pytest.raises(ConfigError, match=r"the password is masked here.*PGPASSWORD, ~/\.pgpass or a service file"):
        open_store(login.replace("p%40ss%2Fw0rd", "***"))


@pytest.mark.parametrize("way", ["variable", "pgpass", "service"])
def test_the_password_may_come_from_where_libpq_looks(
    cluster: Cluster, login: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = login.replace(":p%40ss%2Fw0rd", "")
    if way == "variable":
        monkeypatch.setenv("PGPASSWORD", "p@ss/w0rd")
    elif way == "pgpass":
        (tmp_path / "pgpass").write_text(f"127.0.0.1:{cluster.port}:*:with_password:p@ss/w0rd\n")
        (tmp_path / "pgpass").chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    else:
        (tmp_path / "services").write_text(
            f"[runs]\nhost=127.0.0.1\nport={cluster.port}\nuser=with_password\npassword=p@ss/w0rd\ndbname=postgres\n"
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        address = f"postgresql:///?service=runs&schema={schema_of(login)}"
    store = open_store(address)
    assert ids(store) == []
    close(store)


def test_credentials_that_expired_are_named(cluster: Cluster, login: str) -> None:
    with admin(cluster) as connection:
        connection.execute("ALTER ROLE with_password VALID UNTIL 'yesterday'")
    with pytest.raises(StoreError, match=r"password authentication failed.*whether they have expired"):
        open_store(login)


def test_somebody_who_may_only_read_reads_and_is_told_so_when_writing(address: str, login: str) -> None:
    store = open_store(address)
    append(store, "a")
    reader = open_store(login)
    assert ids(reader) == ["a"]
    with pytest.raises(StoreError, match=r"could not be written: permission denied.*Ask the owner.*GRANT"):
        append(reader, "b")
    with pytest.raises(StoreError, match="could not be written: permission denied"):
        asyncio.run(reader.put_blob(b"x"))
    close(reader)
    with pytest.raises(StoreError, match="could not be opened: permission denied"):
        open_store(login.replace(schema_of(login), "not_there"))
    close(store)


def test_the_grants_that_the_documentation_names_are_enough_to_write(
    cluster: Cluster, address: str, login: str
) -> None:
    with admin(cluster) as connection:
        connection.execute(f"SET search_path = {schema_of(address)}".encode())
        grant = f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {schema_of(address)} TO with_password"
        connection.execute(grant.encode())
        connection.execute("GRANT UPDATE ON store, blobs TO with_password")
        connection.execute("GRANT DELETE ON blob_chunks TO with_password")
    store = open_store(login)
    append(store, "a")
    assert asyncio.run(store.put_blob(b"x")) == asyncio.run(store.put_blob(b"x"))
    assert ids(store) == ["a"]
    close(store)


def test_a_socket_is_as_good_as_a_port(cluster: Cluster, address: str) -> None:
    store = open_store(f"{cluster.socket_url}&schema={schema_of(address)}")
    append(store, "a")
    assert ids(store) == ["a"]
    close(store)


# ── what is there, and what cannot be ──


def test_many_may_open_a_new_store_at_the_same_moment(address: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(address), range(8)))
    for number, store in enumerate(stores):
        append(store, str(number))
        close(store)
    reader = open_store(address)
    assert len(ids(reader)) == 8
    close(reader)


def test_a_store_from_a_newer_release_asks_for_an_upgrade(cluster: Cluster, address: str) -> None:
    close(open_store(address))
    with admin(cluster) as connection:
        connection.execute(f"UPDATE {schema_of(address)}.store SET format = 7".encode())
    with pytest.raises(StoreError, match=r"newer release \(format 7; this release reads up to 2\).*Upgrade:  pip"):
        open_store(address)


def test_a_database_that_cannot_hold_every_text_is_refused(cluster: Cluster) -> None:
    with admin(cluster) as connection:
        connection.execute("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(StoreError, match=r"encoding is LATIN1, which cannot hold every text. Make one with `createdb"):
        open_store(cluster.url(database="narrow"))
    with pytest.raises(StoreError, match=r'database "nowhere" does not exist.*createdb'):
        open_store(cluster.url(database="nowhere"))


@pytest.mark.parametrize("schema", ["Runs", "a-b", "1a", "x" * 41, "a;drop"])
def test_a_schema_is_a_plain_word(schema: str) -> None:
    with pytest.raises(ConfigError, match="schema .*: expected at most 40 lower-case letters"):
        open_store(f"postgresql://localhost/x?schema={schema}")


def test_a_password_with_a_bare_slash_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError, match=r"Write a '/' in the password as %2F") as caught:
        open_store("postgresql://user:hunter/2@host/db")
    assert "hunter" not in str(caught.value)


def test_a_record_the_server_refuses_fails_alone(store: Store) -> None:
    too_long = "".join(random.Random(0).choices(string.printable, k=9000))
    first, broken, last = (store.submit([log(id)]) for id in ("a", too_long, "b"))
    with pytest.raises(StoreError, match=r"index row.*Shorten the record's id, run or rollout"):
        broken.result(timeout=10)
    first.result(timeout=10), last.result(timeout=10)
    with pytest.raises(DataError, match=r"PostgreSQL holds no U\+0000 in an id, a run or a rollout"):
        append(store, "nul \0 nul")
    assert ids(store) == ["a", "b"]
    assert ids(store, where={"id": ["nul \0 nul", "a"]}) == ["a"]


def test_a_text_with_a_nul_is_found_by_it(store: Store) -> None:
    store.submit([make_record("log", "a", {"text": "x \0 y"}), make_record("log", "b", {"text": "x "})]).result(
        timeout=10
    )
    assert ids(store, where={"text": "x \0 y"}) == ["a"]
    assert ids(store, where={"text": ["x \0 z", "x "]}) == ["b"]


def test_rows_that_somebody_deleted_are_missed(cluster: Cluster, address: str, store: Store) -> None:
    append(store, "a", "b", "c")
    assert asyncio.run(store.verify()) == []
    with admin(cluster) as connection:
        connection.execute(f"DELETE FROM {schema_of(address)}.records WHERE id = 'b'".encode())
    assert "3 records were written, 2 are there" in asyncio.run(store.verify())[0]


def test_putting_a_blob_again_leaves_one_copy_and_heals_damage(cluster: Cluster, address: str, store: Store) -> None:
    async def content() -> bytes:
        return b"".join([chunk async for chunk in store.get_blob(ref)])

    whole = b"w" * 2_500_000
    ref = asyncio.run(store.put_blob(whole))
    chunks = f"{schema_of(address)}.blob_chunks"
    with admin(cluster) as connection:
        connection.execute(f"UPDATE {chunks} SET bytes = 'broken' WHERE number = 1".encode())
        with pytest.raises(StoreError, match="is damaged"):
            asyncio.run(content())
        asyncio.run(store.put_blob(whole))
        assert connection.execute(f"SELECT count(*) FROM {chunks}".encode()).fetchone() == (3,)
    assert asyncio.run(content()) == whole


@pytest.mark.parametrize(
    ("kind", "where", "newest_first", "index"),
    [
        ("step", {"rollout": "r-7"}, False, "records_by_rollout"),
        ("step", {"rollout": [f"r-{n}" for n in range(50)]}, False, "records_by_rollout"),
        ("rollout", {"id": ["s-5"], "split": "test"}, False, "records_by_id"),
        (None, {"id": "s-5"}, False, "records_by_id"),
        ("control", None, False, "records_by_kind"),
        (["control", "log"], None, True, "records_by_kind"),
        ("rollout", {"split": "test"}, True, "rollouts_by_split"),
        (None, None, True, "records_pkey"),
    ],
)
def test_reads_are_index_look_ups(
    filled: psycopg.Connection[Any], kind: Any, where: Any, newest_first: bool, index: str
) -> None:
    sql, values = PostgresQuery(kind, where, newest_first=newest_first).page("planned.records", 5, 8_000, 100)
    plan = "\n".join(row[0] for row in filled.execute(f"EXPLAIN {sql}".encode(), values))
    assert index in plan and "Seq Scan" not in plan, plan


@pytest.fixture(scope="module")
def filled() -> Iterator[psycopg.Connection[Any]]:
    """A store of 10,000 records that the server has statistics of."""
    cluster = own_cluster()
    store = open_store(f"{cluster.url()}?schema=planned")
    records = [
        make_record("rollout" if n % 10 == 0 else "step", f"s-{n}", {"split": "test" if n % 200 == 0 else "train"},
                    run=f"run-{n // 5000}", rollout=f"r-{n // 10}")
        for n in range(10_000)
    ]  # fmt: skip
    store.submit(records).result(timeout=30)
    close(store)
    with admin(cluster) as connection:
        connection.execute("ANALYZE planned.records")
        yield connection
