"""What every export does: read what is asked for, keep secrets in, write a file that appears whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.masking import mask
from agentlightning.data.processor import without_secrets
from agentlightning.data.selection import LeftOut
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import StoreError
from agentlightning.store.base import Store, Where
from agentlightning.store.trajectories import read_trajectories
from agentlightning.store.whole_file import draft


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which trajectories an export takes. `is_masked`: with placeholders for personal data."""

    where: Where | None = None
    min_reward: float | None = None
    is_masked: bool = False


class ExportReport(msgspec.Struct, frozen=True):
    """What was written: rows (lines, pairs, spans) out of how many rollouts, and which rollouts were left out."""

    num_rows: int
    num_rollouts: int
    left_out: list[LeftOut] = []


async def chosen(store: Store, choice: Choice) -> AsyncGenerator[Trajectory]:
    """The trajectories that fit, oldest first, without secrets. An unjudged one is under every `min_reward`."""
    async for trajectory in read_trajectories(store, choice.where):
        if choice.min_reward is not None and (trajectory.reward is None or trajectory.reward < choice.min_reward):
            continue
        safe = without_secrets(trajectory)
        yield mask(safe) if choice.is_masked else safe


async def write_lines(path: Path, lines: AsyncIterable[bytes]) -> int:
    """Write a file of lines, whole or not at all, and say how many. StoreError when it cannot be written."""
    num_lines = 0
    with explained(path), draft(path.parent) as writing:
        async for line in lines:
            writing.file.write(line + b"\n")
            num_lines += 1
        await asyncio.to_thread(writing.publish, path)
    return num_lines


async def write_rows(path: Path, rows: list[dict[str, Any]], left_out: list[LeftOut]) -> None:
    """JSON Lines, and beside them `<path>.left_out.jsonl` with every rollout that was not taken and why."""
    await write_lines(path, _encoded(rows))
    await write_lines(path.with_name(f"{path.name}.left_out.jsonl"), _encoded(left_out))


def distinct(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without repetitions, in order."""
    return list({msgspec.json.encode(row): row for row in rows}.values())


async def _encoded(rows: list[Any]) -> AsyncGenerator[bytes]:
    for row in rows:
        yield msgspec.json.encode(row)


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn an OSError of the block into a StoreError about the export; ours (StoreError is one too) pass."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"{path}: the export could not be written ({error}), and nothing was changed there. "
            "Check the folder's permissions and free space."
        ) from error
