"""Stores from the command line: copied between back ends, checked, measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests import store_servers as servers
from tests.store_servers import Place

from agentlightning.cli.main import main
from agentlightning.data.record import make_record
from agentlightning.store.base import BlobRef, Store
from agentlightning.store.open import open_store

WHOLE = b"weights" * 500_000


def with_store(address: str, work: Callable[[Store], Any]) -> Any:
    async def run() -> Any:
        store = open_store(address)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def fill(store: Store) -> BlobRef:
    ref = await store.put_blob(WHOLE)
    await store.put_blob(b"nobody names this one")
    body = {"text": "naïve \0", "x": 1.0, "n": 2**60, "weights": {"sha256": ref.sha256, "size": ref.size}}
    twice = make_record("metric", "twice", {"v": 1})
    await store.append([make_record("log", f"{n}", {"n": n}) for n in range(1200)])
    await store.append([twice, make_record("checkpoint", "c", body, run="r", rollout="o"), twice])
    return ref


async def content(store: Store) -> tuple[list[Any], dict[str, bytes]]:
    records = [stored.record async for stored in store.read()]
    blobs = {ref.sha256: b"".join([chunk async for chunk in store.get_blob(ref)]) async for ref in store.blobs()}
    return records, blobs


PLACES: dict[str, Callable[[Path], Place]] = {
    "folder": lambda folder: Place(str(folder / "other")),
    "segments": lambda folder: Place(f"segments:///{folder / 'segments'}"),
    "postgres": lambda folder: servers.postgres(),
    "s3": lambda folder: servers.s3(),
    "azure": lambda folder: servers.azure(),
}


@pytest.fixture(params=PLACES)
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    place = PLACES[request.param](tmp_path)
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    return place.address


@pytest.fixture
def source(tmp_path: Path) -> str:
    address = str(tmp_path / "runs")
    with_store(address, fill)
    return address


def test_a_copy_is_the_same_there_and_back_and_copying_again_adds_nothing(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["store", "copy", source, target])
    assert capsys.readouterr().out.startswith("1203 records and 2 blobs copied, 0 and 0 were there already")
    assert with_store(target, content) == with_store(source, content)
    main(["store", "copy", source, target])
    assert capsys.readouterr().out.startswith("0 records and 0 blobs copied, 1203 and 2 were there already")
    main(["store", "copy", target, str(tmp_path / "back")])
    assert with_store(str(tmp_path / "back"), content) == with_store(source, content)
    main(["store", "check", target])
    assert "1203 records and 2 blobs were read, and all is well" in capsys.readouterr().out


def test_a_copy_that_was_interrupted_goes_on_where_it_was(source: str, tmp_path: Path) -> None:
    async def half(store: Store) -> None:
        await store.append([make_record("log", "mine", {})])
        records, _ = with_source
        await store.append(records[:700])

    with_source = with_store(source, content)
    with_store(str(tmp_path / "other"), half)
    main(["store", "copy", source, str(tmp_path / "other")])
    records, blobs = with_store(str(tmp_path / "other"), content)
    assert records[0].id == "mine" and (records[1:], blobs) == with_source


def test_a_check_names_what_is_missing_and_what_is_damaged(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (tmp_path / "runs" / "blobs").glob("*/*"):
        if path.stat().st_size > 100:
            path.unlink()
        else:
            path.write_bytes(b"changed")
    with pytest.raises(SystemExit) as stopped:
        main(["store", "check", source])
    said = capsys.readouterr().err
    assert stopped.value.code == 1
    assert "1203 records and 1 blobs were read, and this is wrong:" in said
    assert "checkpoint 'c' names the blob" in said and "which is not there" in said
    assert "is damaged: 7 bytes" in said


def test_the_size_is_shown_by_kind(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["store", "size", source])
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines()]
    assert ["log", "1,200", "10.9", "kB"] in lines
    assert ["metric", "2", "14", "bytes"] in lines
    assert ["blobs", "2", "3.5", "MB"] in lines
    assert ["r", "1", "159", "bytes"] in lines and lines[-1][:5] == ["on", "disk", "or", "at", "the"]
    assert any(len(line) == 3 and len(line[0]) == 64 and line[1] == "3.5" for line in lines)


async def age(store: Store) -> None:
    """A finished run and an interrupted one, of 40 days ago, and a finished one of today."""
    for id, status, days in (("run-old", "finished", 40), ("run-cut", "running", 40), ("run-new", "finished", 0)):
        record = make_record("run", id, {"status": status, "agent": "a", "started_at": 0.0}, run=id)
        await store.append([msgspec.structs.replace(record, time=time.time() - 86_400 * days)])


async def runs(store: Store) -> set[str]:
    return {stored.record.run async for stored in store.read("run")}


def test_pruning_says_what_goes_and_keeps_what_could_be_resumed(
    target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_store(target, age)
    main(["store", "prune", target, "--older-than", "30d", "--dry-run"])
    said = capsys.readouterr().out
    assert "run-old  finished, last written" in said and "would go: 1 runs and 0 rollouts" in said
    assert "kept, because they did not finish and may be resumed (--unfinished removes them): run-cut" in said
    assert with_store(target, runs) == {"run-old", "run-cut", "run-new"}
    main(["store", "prune", target, "--older-than", "30d"])
    assert "removed: 1 runs" in capsys.readouterr().out
    assert with_store(target, runs) == {"run-cut", "run-new"}
    main(["store", "prune", target, "--older-than", "4w", "--unfinished"])
    assert with_store(target, runs) == {"run-new"}
    main(["store", "vacuum", target])
    assert " before, " in capsys.readouterr().out.splitlines()[-1]
    main(["store", "check", target])


def test_an_age_that_is_none_is_refused_before_anything_goes(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["store", "prune", source, "--older-than", "a month"])
    assert stopped.value.code == 2 and "is no age" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["store", "check", "nowhere"],
        ["store", "size", "sqlite:///nowhere.db"],
        ["store", "copy", "nowhere", "x"],
        ["store", "prune", "segments:///nowhere", "--older-than", "1d"],
        ["store", "vacuum", "nowhere"],
        ["ls"],
        ["show", "run-1"],
        ["stats"],
        ["export", "x.jsonl"],
    ],
)
def test_a_store_that_is_not_there_is_not_made(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(command)
    assert "there is no store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
