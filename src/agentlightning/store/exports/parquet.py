"""Trajectories as a Parquet file and back, nothing lost: one row a rollout, JSON for what is free-form.

`steps` is a list of structs with the fields one filters by; the `json` field of each is the whole step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError, MissingExtra
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport, chosen, explained
from agentlightning.store.whole_file import draft

_ROWS = 256
"""Rollouts in a row group: what is held in memory at once."""

_TEXT = ("id", "agent_id", "task", "run_id", "stage", "split", "policy_id", "status", "error")
_NUMBERS = ("reward", "timestamp", "seconds", "usd")
_COUNTS = ("draw", "attempt")
_JSON = ("input", "output", "expected", "metadata", "rewards", "features", "usage")
_STEP_TEXT = ("id", "kind", "agent", "name", "error")


async def export_parquet(store: Store, path: str | Path, choice: Choice) -> ExportReport:
    """Write the trajectories that fit. MissingExtra without pyarrow, StoreError when the file cannot be written."""
    arrow, parquet = _pyarrow()
    path, num_rows, rows = Path(path), 0, list[dict[str, Any]]()
    schema = _schema(arrow)
    with explained(path), draft(path.parent) as writing:
        with parquet.ParquetWriter(writing.file, schema, compression="zstd") as writer:
            async for trajectory in chosen(store, choice):
                rows.append(_row(trajectory))
                num_rows += 1
                if len(rows) == _ROWS:
                    writer.write_table(arrow.Table.from_pylist(rows, schema))
                    rows = []
            writer.write_table(arrow.Table.from_pylist(rows, schema))
        await asyncio.to_thread(writing.publish, path)
    return ExportReport(num_rows, num_rows)


def read_parquet(path: str | Path) -> Generator[Trajectory]:
    """The trajectories of a file that `export_parquet` wrote. DataError for any other file."""
    arrow, parquet = _pyarrow()
    path = Path(path)
    try:
        with parquet.ParquetFile(path) as file:
            if missing := [name for name in _schema(arrow).names if name not in file.schema_arrow.names]:
                raise DataError(
                    f"{path} is no export of trajectories: it has no column {missing[0]!r}. Name a file that "
                    "`agentlightning export --format parquet` wrote; tasks in Parquet go to `tasks:` in the config."
                )
            for batch in file.iter_batches(_ROWS):
                yield from (_trajectory(row, path) for row in batch.to_pylist())
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _row(trajectory: Trajectory) -> dict[str, Any]:
    row = {name: getattr(trajectory, name) for name in (*_TEXT, *_NUMBERS, *_COUNTS)}
    row |= {name: msgspec.json.encode(getattr(trajectory, name)).decode() for name in _JSON}
    return row | {"steps": [_step_row(step) for step in trajectory.steps]}


def _step_row(step: Step) -> dict[str, Any]:
    usage = step.reply.usage if step.reply else None
    return {name: getattr(step, name) for name in _STEP_TEXT} | {
        "index": step.index,
        "model": step.call.model if step.call else None,
        "latency_seconds": step.latency_seconds,
        "input_tokens": usage.input_tokens if usage else None,
        "output_tokens": usage.output_tokens if usage else None,
        "json": msgspec.json.encode(step).decode(),
    }


def _trajectory(row: dict[str, Any], path: Path) -> Trajectory:
    try:
        fields = {name: row[name] for name in (*_TEXT, *_NUMBERS, *_COUNTS)}
        fields |= {name: msgspec.json.decode(row[name]) for name in _JSON}
        fields["steps"] = [msgspec.json.decode(step["json"]) for step in row["steps"]]
        return msgspec.convert(fields, Trajectory)
    except (msgspec.MsgspecError, TypeError) as error:
        raise DataError(f"{path}: rollout {row.get('id')!r} does not read as a trajectory: {error}.") from error


def _schema(arrow: Any) -> Any:
    text, number, count = arrow.string(), arrow.float64(), arrow.int64()
    step = {**dict.fromkeys(_STEP_TEXT, text), "index": count, "model": text, "latency_seconds": number}
    step |= {"input_tokens": count, "output_tokens": count, "json": text}
    columns = {**dict.fromkeys(_TEXT, text), **dict.fromkeys(_NUMBERS, number), **dict.fromkeys(_COUNTS, count)}
    columns |= {**dict.fromkeys(_JSON, text), "steps": arrow.list_(arrow.struct(list(step.items())))}
    return arrow.schema(list(columns.items()))


def _pyarrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtra("Parquet needs the pyarrow package:  pip install 'agentlightning[parquet]'") from error
