"""What can be wrong with the place a store is opened at, and what the error says about it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentlightning.data.record import make_record
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.sqlite import SQLiteStore
from agentlightning.store.sqlite_file import APPLICATION_ID, FILE_VERSION, open_file
from agentlightning.store.sqlite_query import Query


async def write(store: SQLiteStore, num_records: int) -> None:
    await store.append([make_record("log", str(n), {"text": "x" * 500}) for n in range(num_records)])
    await store.close()


async def read(store: SQLiteStore) -> list[str]:
    try:
        return [stored.record.id async for stored in store.read()]
    finally:
        await store.close()


def test_the_file_says_whose_it_is_and_how_old(tmp_path: Path) -> None:
    asyncio.run(write(SQLiteStore(tmp_path), 1))
    connection = sqlite3.connect(tmp_path / "store.sqlite3")
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert connection.execute("PRAGMA user_version").fetchone() == (FILE_VERSION,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_durability_decides_when_the_disk_is_synced(tmp_path: Path, durability: str, level: int) -> None:
    connection = open_file(tmp_path / "s.sqlite3", durability)  # type: ignore[arg-type]
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    connection.close()


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="durability 'paper' is not known: use 'process' or 'power'"):
        SQLiteStore(tmp_path, durability="paper")  # type: ignore[arg-type]


def test_a_file_from_a_newer_release_asks_for_an_upgrade(tmp_path: Path) -> None:
    asyncio.run(write(SQLiteStore(tmp_path), 1))
    connection = sqlite3.connect(tmp_path / "store.sqlite3")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(StoreError, match=r"newer release \(format 7; this release reads up to 1\).*Upgrade:  pip"):
        SQLiteStore(tmp_path)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("CREATE TABLE users (name)")
    connection.close()
    before = (tmp_path / "app.db").read_bytes()
    with pytest.raises(StoreError, match="is an SQLite database of something else"):
        SQLiteStore(f"sqlite:///{tmp_path}/app.db")
    assert (tmp_path / "app.db").read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("these are my notes, please keep them\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt could not be opened.*not a database.*The file is not a store"):
        SQLiteStore(f"sqlite:///{tmp_path}/notes.txt")
    assert (tmp_path / "notes.txt").read_text().startswith("these are my notes")


def test_a_file_where_the_folder_should_be_is_refused_with_both_remedies(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match=r"a file stands where the store's folder should be.*sqlite:///.*runs"):
        SQLiteStore(tmp_path / "runs")


def test_a_folder_where_the_file_should_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder, but sqlite:/// names a file"):
        SQLiteStore(f"sqlite:///{tmp_path}")


def test_an_sqlite_address_without_a_file_is_refused() -> None:
    with pytest.raises(StoreError, match=r"names no file. Write sqlite:///runs\.sqlite3"):
        SQLiteStore("sqlite:///")


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder this process may not write to, even when the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    asyncio.run(write(SQLiteStore(folder / "old"), 1))
    for path in (folder / "old" / "store.sqlite3", folder / "old", folder):
        path.chmod(0o444 if path.is_file() else 0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    for path in (folder, folder / "old"):
        path.chmod(0o755)
    for path in (folder / "old" / "store.sqlite3", folder / "old", folder):
        path.unlink() if path.is_file() else path.rmdir()


def test_a_folder_that_cannot_be_made_is_refused(read_only: Path) -> None:
    with pytest.raises(StoreError, match=r"new: the folder cannot be made \(Permission denied\). Make it writable"):
        SQLiteStore(read_only / "new")


def test_a_folder_that_cannot_be_written_is_refused(read_only: Path) -> None:
    with pytest.raises(StoreError, match=r"could not be opened: unable to open database file\. Check that the folder"):
        SQLiteStore(read_only)


def test_a_store_that_may_only_be_read_is_refused(read_only: Path) -> None:
    with pytest.raises(StoreError, match=r"could not be opened.*writable for this user"):
        SQLiteStore(read_only / "old")


def test_a_damaged_file_is_called_damaged(tmp_path: Path) -> None:
    asyncio.run(write(SQLiteStore(tmp_path), 2000))
    path = tmp_path / "store.sqlite3"
    content = bytearray(path.read_bytes())
    content[40_000:400_000] = b"\xa5" * 360_000
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"could not be read: database disk image is malformed.*The file is damaged"):
        asyncio.run(read(SQLiteStore(tmp_path)))


def test_a_damaged_body_names_its_record(tmp_path: Path) -> None:
    asyncio.run(write(SQLiteStore(tmp_path), 3))
    connection = sqlite3.connect(tmp_path / "store.sqlite3")
    connection.execute("UPDATE records SET body = '{\"te' WHERE position = 2")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match=r"record 2 \(log '1'\) is damaged"):
        asyncio.run(read(SQLiteStore(tmp_path)))


def test_many_may_open_a_new_store_at_the_same_moment(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: SQLiteStore(tmp_path / "new"), range(8)))
    for store in stores:
        asyncio.run(write(store, 5))
    assert len(asyncio.run(read(SQLiteStore(tmp_path / "new")))) == 40


@pytest.mark.parametrize(
    ("kind", "where", "index"),
    [
        ("step", {"rollout": "r"}, "records_by_rollout (kind=? AND rollout=?"),
        ("step", {"rollout": ["r", "q"]}, "COVERING INDEX records_by_rollout (kind=? AND rollout=?"),
        ("rollout", {"id": ["r"], "split": "test"}, "records_by_id (kind=? AND id=?"),
        ("metric", {"run": "x"}, "records_by_run (kind=? AND run=? AND rowid>?"),
        (["log", "metric"], {"run": "x"}, "records_by_run (kind=? AND run=? AND rowid>?"),
        (None, {"id": "x"}, "records_by_id (kind=? AND id=?"),
        ("control", None, "records_by_kind (kind=? AND rowid>?"),
        ("rollout", {"split": "test"}, "rollouts_by_split (<expr>=?"),
        ("rollout", {"status": "failed"}, "rollouts_by_status (<expr>=?"),
        ("rollout", {"task": "t"}, "rollouts_by_task (<expr>=?"),
        (None, None, "INTEGER PRIMARY KEY (rowid>?"),
    ],
)
def test_reads_are_index_look_ups(
    tmp_path: Path, kind: str | list[str] | None, where: dict[str, object] | None, index: str
) -> None:
    connection = open_file(tmp_path / "s.sqlite3", "process")
    sql, values = Query(kind, where).page(5, 10, 100)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    connection.close()
    assert any(index in line for line in plan), plan
    assert not any("SCAN records" in line for line in plan), plan
