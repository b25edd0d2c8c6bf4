"""Does the output have the form the task asks for? JSON Schema, checked by the jsonschema package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import ConfigError, DataError, MissingExtra
from agentlightning.rewards.base import reward
from agentlightning.rewards.compare import as_json
from agentlightning.rewards.matching import no_answer


@reward
def json_schema(
    task: Task, trajectory: Trajectory, *, schema: dict[str, Any] | str | None = None, base_dir: Path = Path()
) -> Reward | None:
    """1 when the output is JSON that fits the schema, else 0 with the first place it does not.

    `schema` is the schema or a file that holds it; without it the task's metadata has it, as `json_schema`. Formats
    (`date`, `email`, …) are checked where jsonschema can. None for a task without a schema.
    """
    wanted = schema if schema is not None else task.metadata.get("json_schema")
    if wanted is None or trajectory.status == "stopped":
        return None
    if isinstance(wanted, str):
        wanted = _read(base_dir / Path(wanted).expanduser())
    if failed := no_answer(trajectory):
        return failed
    try:
        value = as_json("" if trajectory.output is None else trajectory.output)
    except ValueError as error:
        return Reward(0.0, f"the output is not JSON ({error}): {trajectory.output!r:.200}", source="expected")
    found = _first_problem(wanted, value, task)
    return Reward(0.0 if found else 1.0, found or "the output fits the JSON Schema", source="expected")


def _read(file: Path) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"the JSON Schema {str(file)!r} cannot be read: {error}") from error


def _first_problem(schema: Any, value: Any, task: Task) -> str | None:
    try:
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for
    except ImportError as error:
        raise MissingExtra(
            "the reward json_schema needs the jsonschema package:  pip install 'agentlightning[jsonschema]'"
        ) from error
    kind = validator_for(schema)
    try:
        kind.check_schema(schema)
    except SchemaError as error:
        raise DataError(f"task {task.id}: its JSON Schema is none: {error.message}") from error
    problems = kind(schema, format_checker=kind.FORMAT_CHECKER).iter_errors(value)
    first = min(problems, key=lambda problem: problem.json_path, default=None)
    return f"at {first.json_path}: {first.message}"[:500] if first is not None else None
