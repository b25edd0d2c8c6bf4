"""Whatever users call tasks becomes `Task`s, divided into those learned from, chosen by, and tested on.

What is not given is taken from the training tasks: a test on tasks nobody set aside would prove nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast

import msgspec

from agentlightning.data.task import Task, to_tasks
from agentlightning.errors import DataError, near_miss
from agentlightning.trainer.task_files import SUFFIXES, read_task_file, table_task

LIVE = "live"
"""As a source: what the agent was asked in real use. A file of that name is `./live`."""
MIN_TASKS_TO_SPLIT = 10
"""Distinct inputs. With fewer, whatever were held out would be too few to say anything."""
VALIDATION_SHARE, MIN_VALIDATION, MAX_VALIDATION = 0.2, 3, 32
TEST_SHARE, MIN_TEST = 0.4, 4
MAX_LABEL_LENGTH = 40
"""Expected answers longer than this are texts, not labels to balance the splits by."""

_SPLITS = ("train", "validation", "test")
_EXPECTED_WORDS, _INPUT_WORDS = ("expected", "answer"), ("input", "question", "prompt", "query")


class TaskSplits(msgspec.Struct, frozen=True):
    """The tasks of a run. Before `split_tasks`, None means: not given."""

    train: list[Task]
    validation: list[Task] | None = None
    test: list[Task] | None = None
    """After `split_tasks`, None means: nothing is measured at the end."""
    is_presplit: bool = False
    """Someone gave a validation or test split, or declined one, instead of one list."""
    is_validation_declined: bool = False
    """`validation: none`: candidates are chosen by the training tasks."""
    test_disabled: bool = False
    """`test: none`."""
    is_cross_fitted: bool = False
    """The validation tasks are the training tasks."""


def load_tasks(source: Any) -> list[Task]:
    """Tasks from an iterable of strings, mappings and Tasks, a table with columns, or the path of a task file.

    Files: .jsonl, .ndjson, .json, .csv, .tsv, .txt (one task a line), .parquet. In tables (pandas, polars, pyarrow,
    datasets, or a file) the column `input`, `question`, `prompt` or `query` is the input, `expected` or `answer` the
    expected answer, and the rest is metadata. Sets are read in sorted order, so that runs repeat.
    Raises DataError when there is no task, or one cannot be read; it says where.
    """
    if isinstance(source, Task):
        raise DataError("tasks: this is one task. Give a list of tasks:  tasks=[task]")
    if isinstance(source, str) and not _looks_like_path(source):
        raise DataError(f"tasks: {source[:60]!r} is one string. Give a list of tasks, tasks=[…], or a task file.")
    if isinstance(source, str | os.PathLike):
        tasks = read_task_file(Path(source).expanduser())
    elif isinstance(source, Mapping):
        keys = ", ".join(map(repr, list(cast(Mapping[str, Any], source))[:4]))
        raise DataError(
            f"tasks: a mapping with {keys} is one task, or splits without 'train'. Give a list:  [{{…}}, …]"
        )
    elif (rows := _records(source)) is not None:
        tasks = [table_task(row, f"tasks row {number}") for number, row in enumerate(rows, start=1)]
    elif isinstance(source, Iterable) and not isinstance(source, bytes):
        values = cast(Iterable[Any], source)
        tasks = list(sorted(values, key=repr) if isinstance(source, Set) else values)
    else:
        raise DataError(f"tasks: give a list of tasks or the path of a task file, not {type(source).__name__}.")
    if not tasks:
        raise DataError("tasks: the list is empty. Give at least one task; ten or more for a result that is tested.")
    return to_tasks(tasks)


def load_task_splits(source: Any) -> TaskSplits:
    """The splits of a mapping with `train` and perhaps `validation` and `test`; anything else is all for `train`.

    Each split is what `load_tasks` takes; `None` or "none" for validation or test does without it.
    Raises DataError as `load_tasks` does, and when a test task is also a training or validation task.
    """
    if not isinstance(source, Mapping) or not (keys := set(cast(Mapping[str, Any], source))) & set(_SPLITS):
        return TaskSplits(train=load_tasks(source))
    given = cast(Mapping[str, Any], source)
    if unknown := sorted(map(str, keys - set(_SPLITS))):
        raise DataError(
            f"tasks: unknown split {unknown[0]!r}.{near_miss(unknown[0], _SPLITS)} Known: {', '.join(_SPLITS)}."
        )
    if "train" not in given or _is_none(given["train"]):
        raise DataError("tasks: the splits need 'train', the tasks to learn from.")
    loaded = {split: None if _is_none(tasks) else load_tasks(tasks) for split, tasks in given.items()}
    splits = TaskSplits(
        train=loaded["train"] or [],
        validation=loaded.get("validation"),
        test=loaded.get("test"),
        is_presplit=len(given) > 1,
        is_validation_declined="validation" in given and loaded["validation"] is None,
        test_disabled="test" in given and loaded["test"] is None,
    )
    _refuse_overlap(splits)
    return splits


def split_tasks(tasks: Sequence[Task] | TaskSplits, *, seed: int) -> TaskSplits:
    """The splits a run uses: what was not given is taken from the training tasks, about 40 % train, 20 % validation
    (3 to 32 tasks) and 40 % test (at least 4).

    The same seed and tasks give the same splits, whatever order the tasks come in. Tasks with the same input stay
    together, and short expected answers (labels) are spread evenly. With fewer than 10 distinct inputs nothing is held
    out: training tasks also validate (`is_cross_fitted`), and there is no test but a given one. The same validation
    is used where `validation: none` was said.
    """
    splits = tasks if isinstance(tasks, TaskSplits) else TaskSplits(train=list(tasks))
    wants_test = splits.test is None and not splits.test_disabled
    wants_validation = splits.validation is None and not splits.is_validation_declined
    given = {_input_key(task) for task in (*(splits.validation or ()), *(splits.test or ()))}
    free = _by_input(task for task in splits.train if _input_key(task) not in given)
    if len(free) >= MIN_TASKS_TO_SPLIT and (wants_test or wants_validation):
        train, validation, test = _divide(free, seed, wants_validation=wants_validation, wants_test=wants_test)
        splits = msgspec.structs.replace(
            splits,
            train=[*train, *(task for task in splits.train if _input_key(task) in given)],
            validation=validation if wants_validation else splits.validation,
            test=test if wants_test else splits.test,
        )
    if splits.validation is None:
        return msgspec.structs.replace(splits, validation=splits.train, is_cross_fitted=True)
    return splits


def doubts(tasks: Iterable[Task]) -> list[str]:
    """Fields that look like a misspelt `input` or `expected`, one sentence each: without it they say nothing."""
    found: Counter[tuple[str, str, str]] = Counter()
    for task in tasks:
        if task.expected is None:
            beside = [*task.metadata, *(task.input if isinstance(task.input, dict) else ())]
            found.update((key, word, "kept as metadata") for key in beside if (word := _meant(key, _EXPECTED_WORDS)))
        if isinstance(task.input, dict):
            given = "given to the agent by that name"
            found.update((key, word, given) for key in task.input if (word := _meant(key, _INPUT_WORDS)))
    return [
        f"{count} {'task has' if count == 1 else 'tasks have'} a field {key!r}, which is {use}. Did you mean {word!r}?"
        for (key, word, use), count in found.items()
    ]


def _meant(key: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(key.lower(), words, n=1, cutoff=0.8)
    return close[0] if close and key not in (*_EXPECTED_WORDS, *_INPUT_WORDS) else ""


def _looks_like_path(text: str) -> bool:
    if "\n" in text or len(text) > 1000:
        return False
    path = Path(text).expanduser()
    is_one_word = not re.search(r"\s", text)
    return (
        path.suffix.lower() in SUFFIXES
        or (is_one_word and (os.sep in text or bool(re.fullmatch(r"\.[A-Za-z]\w{1,7}", path.suffix))))
        or path.is_file()
    )


def _records(source: Any) -> Iterable[Mapping[str, Any]] | None:
    """The rows of a pandas, polars, pyarrow or datasets table; None for anything else."""
    if hasattr(source, "to_pylist") and hasattr(source, "column_names"):
        return source.to_pylist()
    if hasattr(source, "to_list") and hasattr(source, "column_names"):
        return source.to_list()
    if hasattr(source, "to_dicts") and hasattr(source, "columns"):
        return source.to_dicts()
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        return source.to_dict("records")
    return None


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() == "none")


def _input_key(task: Task) -> bytes:
    return msgspec.json.encode(task.input, order="deterministic")


def _refuse_overlap(splits: TaskSplits) -> None:
    for name, others in (("train", splits.train), ("validation", splits.validation or [])):
        seen = {_input_key(task): task for task in others}
        for task in splits.test or []:
            if (twin := seen.get(_input_key(task))) is not None:
                raise DataError(
                    f"tasks: {task.id} in test is also in {name} (there {twin.id}): {str(task.input)[:60]!r}. "
                    "A test on tasks that were learned from proves nothing. Remove it from one of them."
                )


def _by_input(tasks: Iterable[Task]) -> dict[bytes, list[Task]]:
    groups: dict[bytes, list[Task]] = {}
    for task in tasks:
        groups.setdefault(_input_key(task), []).append(task)
    return {key: sorted(group, key=lambda task: task.id) for key, group in groups.items()}


def _divide(
    groups: Mapping[bytes, list[Task]], seed: int, *, wants_validation: bool, wants_test: bool
) -> tuple[list[Task], ...]:
    """Train, validation and test, by dealing out groups label by label, each to the split furthest behind its share."""
    num_validation = min(MAX_VALIDATION, max(MIN_VALIDATION, round(len(groups) * VALIDATION_SHARE)))
    num_test = max(MIN_TEST, round(len(groups) * TEST_SHARE))
    quota = [0, num_validation if wants_validation else 0, num_test if wants_test else 0]
    quota[0] = len(groups) - sum(quota)
    chance = {key: hashlib.sha256(b"%d:%b" % (seed, key)).digest() for key in groups}
    dealt: dict[bytes, int] = {}
    counts = [0, 0, 0]
    for number, key in enumerate(sorted(groups, key=_by_label(groups, chance)), start=1):
        behind = [share * number / len(groups) - count for share, count in zip(quota, counts, strict=True)]
        dealt[key] = max((split for split in range(3) if counts[split] < quota[split]), key=behind.__getitem__)
        counts[dealt[key]] += 1
    in_order = sorted(groups, key=chance.__getitem__)
    return tuple([task for key in in_order if dealt[key] == split for task in groups[key]] for split in range(3))


def _by_label(groups: Mapping[bytes, list[Task]], chance: Mapping[bytes, bytes]) -> Callable[[bytes], Any]:
    """Sorts by label, where every task has one and they repeat, then by chance, which knows no order of the tasks."""
    labels = {key: _label(group[0]) for key, group in groups.items()}
    is_labelled = None not in labels.values() and len(set(labels.values())) <= len(groups) // 4
    return lambda key: (str(labels[key]) if is_labelled else "", chance[key])


def _label(task: Task) -> str | None:
    if isinstance(task.expected, str) and len(task.expected) <= MAX_LABEL_LENGTH:
        return task.expected.strip().lower()
    return str(task.expected) if isinstance(task.expected, bool | int) else None
