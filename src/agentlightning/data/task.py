"""A task: one input for the agent, with the expected answer where there is one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast

import msgspec

from agentlightning.errors import DataError

_TEXT_FIELDS = ("question", "prompt", "query")

Split = Literal["train", "validation", "test", "live"]
"""live: collected from real use, outside any training run."""


class Task(msgspec.Struct, frozen=True, omit_defaults=True):
    """One input (a string, or named fields) the agent is run on."""

    id: str
    input: str | dict[str, Any]
    expected: Any = None
    metadata: dict[str, Any] = {}


def to_task(value: Any, where: str = "task") -> Task:
    """A Task from a string, a mapping with `input` (or the input's own fields), or a Task.

    A mapping's keys `id`, `input`, `expected` (or `answer`), `metadata` are read as such; other keys join the metadata.
    Without `input`, everything but those keys is the input; a lone `question`, `prompt` or `query` is its text.
    Ids default to a content hash, so they are stable.
    Raises DataError naming `where` when there is no input.
    """
    if isinstance(value, Task):
        return value
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"{where}: the task is an empty string. Give the text the agent is called with.")
        return Task(id=_content_id(value, None), input=value)
    if isinstance(value, Mapping):
        return _from_mapping(cast(Mapping[str, Any], value), where)
    raise DataError(
        f"{where}: a task is a string, a mapping with 'input', or a Task; this is {type(value).__name__}: {value!r:.80}"
    )


def to_tasks(values: Iterable[Any], where: str = "task") -> list[Task]:
    """Tasks from an iterable of what `to_task` takes; equal tasks get distinct ids (`…-2`)."""
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, value in enumerate(values, start=1):
        task = to_task(value, f"{where} {number}")
        seen[task.id] = seen.get(task.id, 0) + 1
        if seen[task.id] > 1:
            task = msgspec.structs.replace(task, id=f"{task.id}-{seen[task.id]}")
        tasks.append(task)
    return tasks


def _from_mapping(value: Mapping[str, Any], where: str) -> Task:
    known = {"id", "input", "expected", "answer", "metadata"}
    expected = value.get("expected", value.get("answer"))
    extra = {key: item for key, item in value.items() if key not in known}
    metadata = value.get("metadata") or {}
    if not isinstance(metadata, Mapping):
        raise DataError(f"{where}: metadata is a mapping of names to values; this is {metadata!r:.60}")
    metadata = dict(cast(Mapping[str, Any], metadata))
    if "input" in value:
        given = value["input"]
        metadata |= extra
    else:
        given = _lone_text(extra)
    if not isinstance(given, str | dict) or not given:
        raise DataError(
            f"{where}: no usable input. Write {{'input': 'the text', 'expected': '…'}}; found keys {sorted(value)}."
        )
    id = str(value.get("id") or _content_id(given, expected))
    return Task(id=id, input=given, expected=expected, metadata=metadata)


def _lone_text(fields: dict[str, Any]) -> Any:
    """The text of a task whose only field is a question by another name; several fields are the agent's own."""
    [key, *others] = fields or {"": None}
    is_text = not others and key.lower() in _TEXT_FIELDS and isinstance(fields[key], str)
    return fields[key] if is_text else fields


def _content_id(given: Any, expected: Any) -> str:
    digest = hashlib.sha256(msgspec.json.encode([given, expected], order="deterministic", enc_hook=repr))
    return f"t-{digest.hexdigest()[:10]}"
