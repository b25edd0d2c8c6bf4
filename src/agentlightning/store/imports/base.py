"""What every import does: read JSON line by line, name the line that is broken, give what was read a stable id."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.call import Usage
from agentlightning.data.processor import process
from agentlightning.data.task import to_task
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError


def json_objects(path: Path) -> Generator[tuple[str, dict[str, Any]]]:
    """Each object of a file with the place it stands at: JSON Lines (read as they come), or one object or list."""
    try:
        with path.open("rb") as file:
            if _is_lines(file.readline()):
                file.seek(0)
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        where = f"{path} line {number}"
                        yield _checked(_decoded(line, where), where)
                return
            file.seek(0)
            whole = _decoded(file.read(), str(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    for number, value in enumerate(whole if isinstance(whole, list) else [whole], start=1):
        yield _checked(value, f"{path} entry {number}")


def _is_lines(first: bytes) -> bool:
    """A file whose first line opens a list, or an object that goes on below, is one JSON value."""
    start = first.lstrip()[:1]
    return start not in (b"{", b"[") or (start == b"{" and first.rstrip().endswith(b"}"))


def content_id(prefix: str, *content: Any) -> str:
    """An id that equal content always gets, so that importing again finds it there."""
    digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic"))
    return f"{prefix}-{digest.hexdigest()[:12]}"


def seconds(value: Any) -> float | None:
    """Seconds since the epoch from a number (s, ms, µs or ns by its size), a numeral, or ISO 8601; None for others."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return _iso_seconds(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return next((value / scale for scale in (1, 1e3, 1e6, 1e9) if value / scale < 1e11), None)


def live(trajectory: Trajectory) -> Trajectory:
    """The trajectory as one that real use left: split live, task id from its input, usage added up, processed."""
    usages = [step.reply.usage for step in trajectory.steps if step.reply and step.reply.usage]
    summed = {name: sum(getattr(usage, name) for usage in usages) for name in Usage.__struct_fields__}
    task = to_task(trajectory.input, f"rollout {trajectory.id}").id
    return process(
        msgspec.structs.replace(trajectory, split="live", task=trajectory.task or task, usage=Usage(**summed))
    )


def numbered(steps: list[Step]) -> list[Step]:
    """The steps with their index in the order given."""
    return [msgspec.structs.replace(step, index=index) for index, step in enumerate(steps)]


def _iso_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _decoded(line: bytes, where: str) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{where}: {error}. Nothing was imported. Expected JSON objects, one a line.") from error


def _checked(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}. Nothing was imported.")
    return where, value
