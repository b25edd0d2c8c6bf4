"""Trajectories in and out as JSON Lines, one whole `Trajectory` (steps, rewards and all) per line, nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import msgspec

from agentlightning.data.processor import without_secrets
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store, Where
from agentlightning.store.exports.base import Choice, chosen, write_lines
from agentlightning.store.trajectories import trajectory_records

_BATCH = 64


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did; `num_skipped_known` rollouts were already in the store, or earlier in the file."""

    num_imported: int
    num_skipped_known: int


async def export_jsonl(
    store: Store,
    path: str | Path,
    where: Where | None = None,
    *,
    min_reward: float | None = None,
    is_masked: bool = False,
) -> int:
    """Write the trajectories that match, oldest first, and say how many there were.

    The file appears whole, in place of an earlier one, or not at all. StoreError when it cannot be written.
    """
    choice = Choice(where=where, min_reward=min_reward, is_masked=is_masked)
    lines = (msgspec.json.encode(trajectory) async for trajectory in chosen(store, choice))
    return await write_lines(Path(path), lines)


async def import_jsonl(store: Store, path: str | Path) -> ImportReport:
    """Add a file's trajectories, except those whose id is already in the store; importing again changes nothing.

    The whole file is checked before the first is added: a broken line is a DataError with its number, and nothing is
    imported. Each rollout is added with its steps or not at all.
    """
    return await import_trajectories(store, lambda: _trajectories(Path(path)))


async def import_trajectories(store: Store, read: Callable[[], Generator[Trajectory]]) -> ImportReport:
    """Add what `read` gives, which is read twice: to its end before the first trajectory is added, and then to add.

    Secrets stay out of the store. Each rollout is added with its steps or not at all, unless its id is there already.
    """
    await asyncio.to_thread(_check, read)
    num_seen = num_imported = 0
    with closing(read()) as trajectories:
        while batch := await asyncio.to_thread(_next_batch, trajectories):
            num_seen += len(batch)
            num_imported += await _add_new(store, batch)
    return ImportReport(num_imported, num_seen - num_imported)


async def _add_new(store: Store, batch: list[Trajectory]) -> int:
    new: dict[str, Trajectory] = {}
    for trajectory in batch:
        new.setdefault(trajectory.id, without_secrets(trajectory))
    async for stored in store.read("rollout", {"id": list(new)}):
        new.pop(stored.record.id, None)
    if new:
        await store.append([record for item in new.values() for record in trajectory_records(item, with_steps=True)])
    return len(new)


def _check(read: Callable[[], Generator[Trajectory]]) -> None:
    for _ in read():
        pass


def _next_batch(trajectories: Iterator[Trajectory]) -> list[Trajectory]:
    return list(islice(trajectories, _BATCH))


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
