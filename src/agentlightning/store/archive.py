"""Trajectories in and out as JSON Lines, one whole `Trajectory` (steps, rewards and all) per line, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError, StoreError
from agentlightning.store.base import Store, Where
from agentlightning.store.trajectories import read_trajectories, trajectory_records
from agentlightning.store.whole_file import draft

_BATCH = 64


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did; `num_skipped_known` rollouts were already in the store, or earlier in the file."""

    num_imported: int
    num_skipped_known: int


async def export_jsonl(store: Store, path: str | Path, where: Where | None = None) -> int:
    """Write the trajectories that match, oldest first, and say how many there were.

    The file appears whole, in place of an earlier one, or not at all. StoreError when it cannot be written.
    """
    path = Path(path)
    num_written = 0
    try:
        with draft(path.parent) as writing:
            async for trajectory in read_trajectories(store, where):
                writing.file.write(msgspec.json.encode(trajectory) + b"\n")
                num_written += 1
            await asyncio.to_thread(writing.publish, path)
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path}: the export could not be written ({error}), and nothing was changed there. "
            "Check the folder's permissions and free space."
        ) from error
    return num_written


async def import_jsonl(store: Store, path: str | Path) -> ImportReport:
    """Add a file's trajectories, except those whose id is already in the store; importing again changes nothing.

    The whole file is checked before the first is added: a broken line is a DataError with its number, and nothing is
    imported. Each rollout is added with its steps or not at all.
    """
    path = Path(path)
    await asyncio.to_thread(_check, path)
    num_seen = num_imported = 0
    with closing(_trajectories(path)) as lines:
        while batch := await asyncio.to_thread(_next_batch, lines):
            num_seen += len(batch)
            num_imported += await _add_new(store, batch)
    return ImportReport(num_imported, num_seen - num_imported)


async def _add_new(store: Store, batch: list[Trajectory]) -> int:
    new: dict[str, Trajectory] = {}
    for trajectory in batch:
        new.setdefault(trajectory.id, trajectory)
    async for stored in store.read("rollout", {"id": list(new)}):
        new.pop(stored.record.id, None)
    if new:
        await store.append([record for item in new.values() for record in trajectory_records(item, with_steps=True)])
    return len(new)


def _check(path: Path) -> None:
    for _ in _trajectories(path):
        pass


def _next_batch(lines: Iterator[Trajectory]) -> list[Trajectory]:
    return list(islice(lines, _BATCH))


def _trajectories(path: Path) -> Generator[Trajectory]:
    decoder = msgspec.json.Decoder(Trajectory)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(decoder, line, path, number)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Name a JSONL file that export wrote.") from error


def _parse(decoder: msgspec.json.Decoder[Trajectory], line: bytes, path: Path, number: int) -> Trajectory:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"{path} line {number}: {error}. Nothing was imported. Expected one trajectory as a JSON object with at "
            f"least id, agent_id, task, input and timestamp; found: {line.strip()[:80].decode(errors='replace')}"
        ) from error
