"""One commit for many appends, and a failed commit that fails those and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentlightning.errors import StoreError
from agentlightning.store import sqlite_file
from agentlightning.store.group_commit import GroupCommit
from agentlightning.store.rows import Row
from agentlightning.store.sqlite import commit
from agentlightning.store.sqlite_file import open_file


def row(id: str, size: int = 10) -> Row:
    return ("log", id, "", "", 0.0, 1, f'"{"x" * size}"')


class Writing:
    """A writer, its connection, and another connection that can hold the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = open_file(path, "process")
        self.other = sqlite3.connect(path, isolation_level=None)
        self.num_commits = 0
        self.writer = GroupCommit(lambda groups: commit(self.connection, path, groups), str(path), self._count)

    def _count(self) -> None:
        self.num_commits += 1

    def ids(self) -> list[str]:
        return [id for (id,) in self.other.execute("SELECT id FROM records ORDER BY position")]

    def close(self) -> None:
        self.writer.close()
        self.connection.close()
        self.other.close()


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    with closing(Writing(tmp_path / "s.sqlite3")) as opened:
        yield opened


def test_what_gathers_during_a_commit_shares_the_next_one(writing: Writing) -> None:
    writing.other.execute("BEGIN IMMEDIATE")
    futures = [writing.writer.submit([row(f"{n}"), row(f"{n}'")]) for n in range(100)]
    writing.other.execute("COMMIT")
    assert [future.result(timeout=10) for future in futures] == [str(2 * n + 2) for n in range(100)]
    assert writing.num_commits <= 3


def test_a_full_disk_fails_the_appends_of_that_commit_and_the_next_ones_work(writing: Writing) -> None:
    writing.connection.execute("PRAGMA max_page_count = 60")
    writing.other.execute("BEGIN IMMEDIATE")
    first = writing.writer.submit([row("first")])
    while not first.running():  # its group is closed once the writer holds it
        pass
    together = [writing.writer.submit([row("a")]), writing.writer.submit([row("big", 400_000)])]
    writing.other.execute("COMMIT")
    first.result(timeout=10)
    for future in together:
        with pytest.raises(StoreError, match=r"could not be written: database or disk is full.*Free some space"):
            future.result(timeout=10)
    writing.writer.submit([row("next")]).result(timeout=10)
    assert writing.ids() == ["first", "next"]
    writing.connection.execute("PRAGMA max_page_count = 100000")
    writing.writer.submit([row("big", 400_000)]).result(timeout=10)
    assert writing.ids() == ["first", "next", "big"]


def test_a_lock_held_too_long_is_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.05)
    with closing(Writing(tmp_path / "s.sqlite3")) as writing:
        writing.other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"database is locked. Another process has been writing"):
            writing.writer.submit([row("a")]).result(timeout=10)
        writing.other.execute("COMMIT")
        writing.writer.submit([row("b")]).result(timeout=10)
        assert writing.ids() == ["b"]


def test_an_append_cancelled_before_its_commit_is_not_written(writing: Writing) -> None:
    writing.other.execute("BEGIN IMMEDIATE")
    first = writing.writer.submit([row("first")])
    while not first.running():
        pass
    cancelled, kept = writing.writer.submit([row("cancelled")]), writing.writer.submit([row("kept")])
    assert cancelled.cancel()
    writing.other.execute("COMMIT")
    assert kept.result(timeout=10) == "2"
    assert writing.ids() == ["first", "kept"]


def test_closing_writes_what_was_submitted(tmp_path: Path) -> None:
    writing = Writing(tmp_path / "s.sqlite3")
    futures = [writing.writer.submit([row(f"{n}")]) for n in range(5000)]
    writing.writer.close()
    assert [future.result(timeout=0) for future in futures] == [str(n) for n in range(1, 5001)]
    with pytest.raises(StoreError, match="is closed"):
        writing.writer.submit([row("late")]).result(timeout=0)
    assert len(writing.ids()) == 5000
    writing.close()
