"""A task file becomes tasks: JSON lines, JSON, CSV, TSV, plain text or Parquet, by its suffix.

What cannot be read is named with file, line, the text that stands there and what to do about it.
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agentlightning.data.task import Task, to_task
from agentlightning.errors import DataError, MissingExtra
from agentlightning.trainer.nearby import files_like

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet")
INPUT_COLUMNS = ("input", "question", "prompt", "query")
"""In a table, the first of these that is there is the input. Case does not matter."""
EXPECTED_COLUMNS = ("expected", "answer")
"""In a table, the first of these that is there is the expected answer. All other columns but `id` are metadata."""


def read_task_file(path: Path) -> list[Task]:
    """The tasks of a file, in order. DataError when it is missing, broken, empty or of a kind we do not read."""
    suffix = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"there is no task file {str(path)!r}.{files_like(path, SUFFIXES)}")
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: a task file ends in {', '.join(SUFFIXES)}; this one in {suffix!r}. Rename or convert it."
        )
    tasks = list(_parquet(path) if suffix == ".parquet" else _parse(_text(path), path, suffix))
    if not tasks:
        raise DataError(f"{path} holds no tasks. Put one task on each line, such as  {_EXAMPLE}")
    return tasks


def table_task(row: Mapping[str, Any], where: str) -> Task:
    """The task of a table's row: input, expected and id columns as such, the rest as metadata, empty cells left out.

    Raises DataError when there is no input column, or it is empty here.
    """
    cells = {str(key): value for key, value in row.items() if not _is_empty(value)}
    column = {str(key).strip().lower(): str(key) for key in reversed(list(row))}
    given = next((column[name] for name in INPUT_COLUMNS if name in column), None)
    if given is None:
        raise DataError(
            f"{where}: there is no column named {', '.join(INPUT_COLUMNS[:-1])} or {INPUT_COLUMNS[-1]}; found "
            f"{', '.join(map(str, row))}. Rename the one that is given to the agent to 'input'."
        )
    if given not in cells:
        raise DataError(f"{where}: the {given!r} cell is empty. Fill it, or remove the row.")
    expected = next((column[name] for name in EXPECTED_COLUMNS if name in column), "")
    special = {given, expected, column.get("id", "")}
    return to_task(
        {
            "id": cells.get(column.get("id", "")),
            "input": cells[given] if isinstance(cells[given], str | dict) else str(cells[given]),
            "expected": cells.get(expected),
            "metadata": {key: value for key, value in cells.items() if key not in special},
        },
        where,
    )


def _is_empty(value: Any) -> bool:
    is_not_a_number = isinstance(value, float) and value != value  # what pandas writes for an empty cell
    return value is None or is_not_a_number or (isinstance(value, str) and not value.strip())


_EXAMPLE = '{"input": "the text", "expected": "the answer"}'


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {line}: this is not UTF-8 text. Save the file as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _parse(text: str, path: Path, suffix: str) -> Iterable[Task]:
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines(text, path)
    if suffix == ".json":
        return _json_list(text, path)
    if suffix in (".csv", ".tsv"):
        return _table(text, path, suffix)
    return [to_task(line.strip(), str(path)) for line in text.split("\n") if line.strip()]


def _json_lines(text: str, path: Path) -> Iterator[Task]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} line {number}: this is not JSON ({error.msg}, column {error.colno}): {line.strip()[:80]!r}. "
                f"Each line is one task, such as  {_EXAMPLE}"
            ) from error
        yield to_task(value, f"{path} line {number}")


def _json_list(text: str, path: Path) -> Iterator[Task]:
    try:
        values = json.loads(text) if text.strip() else []
    except json.JSONDecodeError as error:
        one_per_line = " Is it one task a line? Then rename it to end in .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{path} line {error.lineno}: this is not JSON ({error.msg}).{one_per_line}") from error
    if not isinstance(values, list):
        raise DataError(f"{path}: a .json task file holds a list of tasks, [{_EXAMPLE}, …]; this holds something else.")
    for number, value in enumerate(values, start=1):
        yield to_task(value, f"{path} task {number}")


def _table(text: str, path: Path, suffix: str) -> Iterator[Task]:
    head = text.split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else ";" if ";" in head and "," not in head else ","
    rows = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    first_line = 1
    try:
        for cells in rows:
            where, first_line = f"{path} line {first_line}", rows.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = cells
            elif len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells, but the header has {len(header)}: {delimiter.join(cells)[:80]!r}. "
                    'Put a cell that holds the separator in double quotes ("…").'
                )
            else:
                yield table_task(dict(zip(header, cells, strict=True)), where)
    except csv.Error as error:
        raise DataError(f"{path} line {rows.line_num}: {error}. Check the double quotes there.") from error


def _parquet(path: Path) -> Iterator[Task]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtra(
            "reading Parquet needs the pyarrow package:  pip install 'agentlightning[parquet]'"
        ) from error
    try:
        rows = parquet.read_table(path).to_pylist()
    except (ValueError, OSError) as error:  # pyarrow's errors are of these kinds
        raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield table_task(row, f"{path} row {number}")
