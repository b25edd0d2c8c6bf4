"""Object segments: what they look like, what happens when one is damaged, and cursors that mean the same everywhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import store_servers as servers
from tests.store_servers import Wire

from agentlightning.data.record import Record, make_record
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store import objects_place, objects_writer
from agentlightning.store.base import Cursor, Store
from agentlightning.store.objects_progress import parse_cursor, parse_progress
from agentlightning.store.objects_segment import Segment, SegmentId, encode
from agentlightning.store.open import open_store


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indexes of the test's own."""
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = open_store(f"segments:///{folder}")
    yield opened
    close(opened)


@pytest.fixture
def elsewhere(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Store]]:
    """Opens the store as another machine would: with an index of its own."""
    opened: list[Store] = []

    def another(options: str = "") -> Store:
        monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / f"cache {len(opened)}"))
        opened.append(open_store(f"segments:///{folder}{options}"))
        return opened[-1]

    yield another
    for one in opened:
        close(one)


def close(store: Store) -> None:
    asyncio.run(store.close())


def log(id: str) -> Record:
    return make_record("log", id, {"text": "x" * 100})


def append(store: Store, *ids: str) -> Cursor:
    return store.submit([log(id) for id in ids]).result(timeout=60)


def ids(store: Store, **query: Any) -> list[str]:
    async def read() -> list[str]:
        return [stored.record.id async for stored in store.read(**query)]

    return asyncio.run(read())


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("segments/*/*"))


def segment(folder: Path, writer: int, number: int) -> Path:
    return folder / SegmentId(writer, number).name


# ── what is written ──


def test_a_segment_can_be_read_with_zcat(store: Store, folder: Path) -> None:
    append(store, "a", "b")
    header, *lines = gzip.decompress(segment(folder, 0, 1).read_bytes()).decode().splitlines()
    assert json.loads(header)["num_rows"] == 2
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]
    assert json.loads(lines[0])["body"] == {"text": "x" * 100}


def test_what_gathers_while_a_segment_is_written_shares_the_next_one(store: Store, folder: Path) -> None:
    futures = [store.submit([log(f"{n}")]) for n in range(500)]
    cursors = [future.result(timeout=30) for future in futures]
    assert len(segments(folder)) < 100
    assert ids(store) == [f"{n}" for n in range(500)]
    assert ids(store, since=cursors[399]) == [f"{n}" for n in range(400, 500)]


def test_a_reader_alone_writes_nothing_but_the_mark(store: Store, folder: Path) -> None:
    assert ids(store) == []
    append(store)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["store.json"]


def test_a_writer_begins_a_new_number_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_writer, "MAX_SEGMENTS", 3)
    store = open_store(f"segments:///{folder}")
    for n in range(10):
        append(store, f"{n}")
    cursor = append(store)
    assert {path.parent.name for path in segments(folder)} == {f"{n:08d}" for n in range(5)}
    assert ids(store) == [f"{n}" for n in range(10)]
    assert len(cursor) < 10
    close(store)


def test_stores_that_came_and_went_leave_the_cursor_short(folder: Path) -> None:
    for n in range(20):
        store = open_store(f"segments:///{folder}")
        append(store, f"{n}")
        close(store)
    store = open_store(f"segments:///{folder}")
    assert append(store) == "20"
    assert ids(store) == [f"{n}" for n in range(20)]
    close(store)


def test_power_durability_syncs_what_it_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    store = open_store(f"segments:///{folder}", durability="power")
    append(store, "a")
    ref = asyncio.run(store.put_blob(b"weights"))
    close(store)
    assert {str(segment(folder, 0, 1)), str(segment(folder, 0, 1).parent), str(folder)} <= set(synced)
    assert str(folder / "blobs" / ref.sha256[:2] / ref.sha256) in synced


# ── several writers, several indexes ──


def test_a_cursor_taken_here_means_the_same_there(store: Store, elsewhere: Callable[..., Store]) -> None:
    one, two = elsewhere(), elsewhere()
    append(one, "one a")
    append(two, "two a")
    assert ids(two) == ["two a", "one a"] and ids(one) == ["one a", "two a"], "they arrived in another order"
    seen_by_two = append(two)
    append(one, "one b", "one c")
    append(two, "two b")
    for reader in (one, two, store):
        assert sorted(ids(reader, since=seen_by_two)) == ["one b", "one c", "two b"]


@pytest.mark.parametrize("seed", range(int(os.environ.get("AGENTLIGHTNING_TURN_SEEDS", "5"))))
def test_readers_who_follow_get_every_record_once_however_writers_take_turns(
    elsewhere: Callable[..., Store], seed: int
) -> None:
    rng = random.Random(seed)
    stores = [elsewhere() for _ in range(3)]
    cursors: list[Cursor | None] = [None] * 3
    seen: list[list[str]] = [[], [], []]
    written: list[str] = []

    async def follow(reader: int, limit: int | None) -> None:
        async for stored in stores[reader].read(since=cursors[reader], limit=limit):
            seen[reader].append(stored.record.id)
            cursors[reader] = stored.cursor

    for turn in range(60):
        number = rng.randrange(3)
        if rng.random() < 0.6:
            batch = [f"{turn}.{n}" for n in range(rng.randint(1, 4))]
            append(stores[number], *batch)
            written += batch
        else:
            asyncio.run(follow(number, rng.choice([None, 1, 2, 5])))
        if rng.random() < 0.1:  # the readers swap places: a cursor and what it stands for go to another machine
            other = rng.randrange(3)
            for lists in (cursors, seen):
                lists[number], lists[other] = lists[other], lists[number]  # type: ignore[index]
    for reader in range(3):
        asyncio.run(follow(reader, None))
        assert sorted(seen[reader]) == sorted(written)


def test_an_index_made_anew_puts_an_effect_behind_its_cause_whatever_the_clocks_say(
    elsewhere: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = elsewhere(), elsewhere()
    now = time.time_ns()
    for n in range(6):
        writer = (one, two)[n % 2]
        assert ids(writer) == [f"{k}" for k in range(n)]  # it has seen what is there, then adds to it
        monkeypatch.setattr(time, "time_ns", lambda n=n: now - n * 3600 * 10**9)  # and its clock goes backwards
        append(writer, f"{n}")
    assert ids(elsewhere()) == [f"{n}" for n in range(6)]


def test_a_deleted_index_is_made_again(store: Store, cache: Path) -> None:
    cursor = append(store, "a")
    append(store, "b")
    close(store)
    [index] = cache.rglob("index.sqlite3")
    for path in index.parent.iterdir():
        path.unlink()
    again = open_store(store.address)
    assert ids(again) == ["a", "b"] and ids(again, since=cursor) == ["b"]
    close(again)


def test_a_damaged_index_says_that_deleting_it_loses_nothing(store: Store, cache: Path) -> None:
    append(store, "a")
    close(store)
    [index] = cache.rglob("index.sqlite3")
    index.write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=rf"only an index of .*: deleting {index.parent} loses nothing"):
        open_store(store.address)


def test_what_the_index_missed_while_its_disk_was_full_is_read_all_the_same(store: Store, cache: Path) -> None:
    append(store, "a")
    [index] = cache.rglob("index.sqlite3")
    with closing(sqlite3.connect(index, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT raise(ABORT, 'full'); END")
        with pytest.raises(StoreError, match="only an index"):
            append(store, "b")
        other.execute("DROP TRIGGER full")
    append(store, "c")
    assert ids(store) == ["a", "b", "c"]


def test_a_bucket_that_was_emptied_and_used_again_is_another_store(store: Store, folder: Path) -> None:
    append(store, "old")
    close(store)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = open_store(store.address)
    append(again, "new")
    assert ids(again) == ["new"]
    close(again)


# ── writers that look dead ──


def test_a_writer_that_was_sealed_by_another_goes_on_with_a_new_number(store: Store, folder: Path) -> None:
    append(store, "a")
    segment(folder, 0, 2).write_bytes(encode(Segment(SegmentId(0, 2), 1, True, []), "somebody else"))
    append(store, "b")
    append(store, "c")
    assert ids(store) == ["a", "b", "c"]
    assert segment(folder, 1, 2).exists()


def test_a_writer_that_was_killed_is_sealed_by_a_later_one(folder: Path, elsewhere: Callable[..., Store]) -> None:
    killed = elsewhere()
    append(killed, "a")
    long_ago = time.time() - 7200
    for path in segments(folder):
        os.utime(path, (long_ago, long_ago))
    later = elsewhere()
    assert ids(later) == ["a"]
    append(later, "b")
    assert segment(folder, 0, 2).exists()
    close(later)
    assert append(elsewhere()) == "2"
    append(killed, "it lives")
    assert ids(elsewhere()) == ["a", "b", "it lives"]


def test_a_writer_that_wrote_lately_is_left_alone(folder: Path, elsewhere: Callable[..., Store]) -> None:
    first, second = elsewhere(), elsewhere()
    append(first, "a")
    assert ids(second) == ["a"]
    append(second, "b")
    assert not segment(folder, 0, 2).exists()


# ── damage ──


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def changed(path: Path) -> None:
    text = gzip.decompress(path.read_bytes()).replace(b'"b"', b'"B"')
    path.write_bytes(gzip.compress(text))


def copied(path: Path) -> None:
    path.write_bytes((path.parent / "00000001.jsonl.gz").read_bytes())


def gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (torn, "it does not read"),
        (empty, "it does not read"),
        (changed, "does not match its checksum"),
        (copied, "it is a copy of segments/00000000/00000001"),
        (gone, "it is missing"),
    ],
)
def test_a_damaged_segment_is_named_and_skipped_only_where_that_was_asked_for(
    folder: Path,
    elsewhere: Callable[..., Store],
    damage: Callable[[Path], None],
    reason: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = elsewhere()
    for id in ("a", "b", "c"):
        append(writer, id)
    damage(segment(folder, 0, 2))

    strict = elsewhere()
    for _ in range(2):
        with pytest.raises(
            StoreError, match=rf"segment segments/00000000/00000002\S* is damaged: .*{reason}.*Restore it"
        ):
            ids(strict)
    [line] = asyncio.run(strict.verify())
    assert "segments/00000000/00000002" in line and reason in line

    lenient = elsewhere("?damaged=skip")
    with caplog.at_level(logging.WARNING, "agentlightning"):
        assert ids(lenient) == ["a", "c"]
    assert "skipped: " in caplog.text and "00000002" in caplog.text
    append(writer, "d")
    assert ids(lenient) == ["a", "c", "d"]
    assert ids(writer) == ["a", "b", "c", "d"], "who had read it before the damage is not troubled"


def test_an_index_that_skipped_damage_is_refused_to_those_who_did_not_ask(folder: Path) -> None:
    store = open_store(f"segments:///{folder}")
    for id in ("a", "b"):
        append(store, id)
    close(store)
    os.environ["AGENTLIGHTNING_CACHE"] += " two"
    torn(segment(folder, 0, 1))
    lenient, strict = open_store(f"segments:///{folder}?damaged=skip"), open_store(f"segments:///{folder}")
    assert ids(lenient) == ["b"]
    with pytest.raises(StoreError, match="is damaged"):
        ids(strict)
    close(lenient)
    close(strict)


def test_a_writer_whose_segments_were_all_deleted_is_missed(folder: Path, elsewhere: Callable[..., Store]) -> None:
    for id in ("a", "b"):
        writer = elsewhere()
        append(writer, id)
        close(writer)
    for path in (folder / "segments" / "00000000").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match=r"00000000/00000000.* is damaged: it is missing"):
        ids(elsewhere())


def test_a_writer_that_was_killed_before_its_claim_was_written_is_not_missed(
    store: Store, folder: Path, elsewhere: Callable[..., Store]
) -> None:
    append(store, "a")
    (folder / "segments" / "00000001").mkdir()  # what it leaves: the folder of the number it wanted
    for name in ("b", "c"):
        append(elsewhere(), name)
    reader = elsewhere()
    assert asyncio.run(reader.verify()) == []
    assert ids(reader) == ["a", "b", "c"]
    assert sorted(path.name for path in (folder / "segments").iterdir()) == ["00000000", "00000001", "00000002"]


def test_a_segment_from_a_newer_release_asks_for_an_upgrade(store: Store, folder: Path) -> None:
    append(store, "a")
    newer = gzip.decompress(segment(folder, 0, 1).read_bytes()).replace(b'"format":1', b'"format":7', 1)
    segment(folder, 0, 2).write_bytes(gzip.compress(newer))
    with pytest.raises(StoreError, match=r"is from a newer release. Upgrade:  pip"):
        ids(store)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (b'{"format": 7, "id": "x"}', r"newer release \(format 7; this release reads up to 1\)"),
        (b'{"name": "a shop"}', r"store\.json there is not ours .*Choose another prefix"),
    ],
)
def test_a_place_that_holds_something_else_is_refused(folder: Path, mark: bytes, message: str) -> None:
    folder.mkdir()
    (folder / "store.json").write_bytes(mark)
    with pytest.raises(StoreError, match=message):
        open_store(f"segments:///{folder}")


def test_files_that_are_not_ours_are_passed_over(store: Store, folder: Path) -> None:
    append(store, "a")
    (segment(folder, 0, 1).parent / "notes.txt").write_text("mine")
    (folder / "blobs" / "zz").mkdir(parents=True)
    (folder / "blobs" / "zz" / "photo.png").write_bytes(b"x")

    async def blobs() -> list[Any]:
        return [ref async for ref in store.blobs()]

    append(store, "b")
    assert ids(store) == ["a", "b"] and asyncio.run(blobs()) == []


def test_a_damaged_blob_is_healed_by_putting_it_again(store: Store, folder: Path) -> None:
    async def content() -> bytes:
        return b"".join([chunk async for chunk in store.get_blob(ref)])

    ref = asyncio.run(store.put_blob(b"weights"))
    (folder / "blobs" / ref.sha256[:2] / ref.sha256).write_bytes(b"weightz")
    with pytest.raises(StoreError, match="is damaged: 7 bytes with that hash were expected"):
        asyncio.run(content())
    asyncio.run(store.put_blob(b"weights"))
    assert asyncio.run(content()) == b"weights"


# ── addresses and permissions ──


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://AKIA:hunter2@bucket/x", r"holds no credentials\. Set them in the environment"),
        (
            "s3://bucket/x?endpiont=http://x",
            r"no option 'endpiont'\. Did you mean 'endpoint'\? Known: endpoint",
        ),
        ("gs://bucket?region=x", "has no option 'region'"),
        ("az://container?damaged=maybe", r"damaged='maybe': expected refuse \(an error, the default\) or skip"),
        ("s3:///x", r"names no bucket\. Write s3://bucket/prefix"),
        ("segments://x/y", "write segments:///folder, with three slashes"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


def test_a_folder_is_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for address in ("segments:///here", f"segments:///{tmp_path}/here"):
        store = open_store(address)
        assert store.address == f"segments:///{tmp_path}/here"
        close(store)


@pytest.mark.parametrize("cursor", ["yesterday", "-1", "3|", "3|5", "3|5=x", "1@2.3", "٣", "3|5=12@1.2.3x"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(ConfigError, match="is no cursor of this store"):
        parse_cursor(Cursor(cursor))


@pytest.mark.parametrize("text", ["0", "3", "3|5=12", "3|5=12|6=4!|17=0"])
def test_progress_is_read_as_it_was_written(text: str) -> None:
    assert str(parse_progress(text)) == text


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store with one record that this process may only read, even when the tests run as root."""
    place = Path(tempfile.mkdtemp())
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(place / "cache"))
    (place / "cache").mkdir(mode=0o777)
    (place / "cache").chmod(0o777)
    store = open_store(f"segments:///{place}/runs")
    append(store, "a")
    close(store)
    shutil.rmtree(place / "cache" / "segments")
    for path in (place, place / "runs", *(place / "runs").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield store.address
    os.seteuid(user)
    for path in (place, place / "runs", *(place / "runs").rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(place)


def test_a_folder_that_may_only_be_read_is_read(read_only: str) -> None:
    store = open_store(read_only)
    assert ids(store) == ["a"]
    with pytest.raises(StoreError, match="Make the folder writable for this user"):
        append(store, "b")
    with pytest.raises(StoreError, match="Make the folder writable for this user"):
        asyncio.run(store.put_blob(b"x"))
    close(store)


def test_a_cache_that_cannot_be_made_names_the_variable(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGENTLIGHTNING_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="AGENTLIGHTNING_CACHE names another folder"):
        open_store(f"segments:///{folder}")


# ── services ──


def use(place: servers.Place, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    return place.address


def test_a_shared_access_signature_opens_what_it_says_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    address = use(servers.azure(), monkeypatch)
    store = open_store(address)
    append(store, "a")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", servers.sas("rl", timedelta(hours=1)))
    reader = open_store(address)
    assert ids(reader) == ["a"]
    with pytest.raises(StoreError, match=r"AuthorizationPermissionMismatch.*do they allow reading"):
        append(reader, "b")
    close(reader)
    close(store)


def test_credentials_that_expired_are_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    address = use(servers.azure(), monkeypatch)
    close(open_store(address))
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    token = servers.sas("rwlc", timedelta(hours=-1))
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", token)
    with pytest.raises(StoreError, match=r"Check the credentials: have they expired") as caught:
        open_store(address)
    assert token.rpartition("sig=")[2] not in str(caught.value)


def test_a_bucket_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    address = use(servers.s3(), monkeypatch).replace("s3://test/", "s3://nowhere/")
    with pytest.raises(StoreError, match=r"s3://nowhere/.*NoSuchBucket.*Create the bucket or container first"):
        open_store(address)


def test_a_service_that_is_down_is_tried_again_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_place, "_RETRY", {"max_retries": 1, "retry_timeout": timedelta(seconds=2)})
    address = use(servers.s3(), monkeypatch).partition("?")[0]
    with pytest.raises(StoreError, match=r"could not be read.*Check the network, the endpoint and the region"):
        open_store(f"{address}?endpoint=http://127.0.0.1:{servers.free_port()}")


@pytest.mark.parametrize("is_delivered", [True, False])
@pytest.mark.parametrize("service", [servers.s3, servers.azure])
def test_a_segment_whose_answer_was_lost_is_written_once(
    service: Callable[[], servers.Place], is_delivered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = use(service(), monkeypatch)
    port = int(address.rpartition("127.0.0.1:")[2].partition("/")[0])
    with Wire(port) as wire:
        store = open_store(address.replace(str(port), str(wire.port)))
        append(store, "before")
        for n in range(3):
            wire.cut(b"PUT ", is_delivered=is_delivered)
            append(store, f"{n}a", f"{n}b")
        assert wire.num_cut == 3
        assert ids(store) == ["before", *(f"{n}{part}" for n in range(3) for part in "ab")]
        close(store)


def test_a_blob_of_several_parts_comes_back_from_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(use(servers.s3(), monkeypatch))
    pieces = [bytes([n]) * 4_000_000 for n in range(5)]

    async def scenario() -> None:
        ref = await store.put_blob(iter(pieces))
        assert b"".join([chunk async for chunk in store.get_blob(ref)]) == b"".join(pieces)
        assert [ref async for ref in store.blobs()] == [ref]
        await store.close()

    asyncio.run(scenario())
