"""A filter becomes SQL whose every word is ours: kinds and paths are checked and written out, values are bound.

Kinds and paths are literals because SQLite uses an expression or partial index only when it sees the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from agentlightning.data.record import RECORD_KINDS
from agentlightning.errors import ConfigError, near_miss
from agentlightning.store.base import Cursor, Where
from agentlightning.store.sqlite_file import COLUMNS

_INDEXES = {"id": "records_by_id", "rollout": "records_by_rollout", "run": "records_by_run"}
"""Columns that have an index, the most telling one first."""

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")
_SCALAR = (str, int, float)


class Query:
    """One filter, read a page at a time: `page` gives the SQL and the values for the rows between two positions."""

    def __init__(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool = False) -> None:
        self._conditions, self._values = _conditions(where or {})
        index = next((name for column, name in _INDEXES.items() if column in (where or {})), None)
        # Said outright: without statistics SQLite may prefer `split`, or all rows of the kind, to a list of ids.
        self._table = f"records INDEXED BY {index}" if index else "records"
        self._kinds = _kinds(kind, has_index=index is not None)
        # A list of ids is found in the order of the ids, so each page sorts what is left: positions only, not rows.
        self._sorts = any(column in _INDEXES and not isinstance(v, _SCALAR) for column, v in (where or {}).items())
        self._direction = "DESC" if newest_first else "ASC"

    def page(self, after: int, until: int, limit: int) -> tuple[str, list[Any]]:
        """Rows with after < position <= until, at most `limit`, in order.

        One SELECT per kind, merged by SQLite: each arm walks its own index in position order, so that a page costs
        what it holds, however long the store is.
        """
        bounds = ["position > ?", "position <= ?"]
        columns = "position" if self._sorts else COLUMNS
        arms = [
            f"SELECT {columns} FROM {self._table} WHERE {' AND '.join([*kind, *self._conditions, *bounds])}"
            for kind in self._kinds
        ]
        order = f"ORDER BY position {self._direction}"
        sql = f"{' UNION ALL '.join(arms)} {order} LIMIT {limit}"
        if self._sorts:
            sql = f"SELECT {COLUMNS} FROM records WHERE position IN ({sql}) {order}"
        return sql, [*self._values, after, until] * len(arms)


def parse_cursor(cursor: Cursor | None) -> int:
    """The position a cursor stands for; 0 for None. ConfigError when it is not one of an SQLite store's."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise ConfigError(f"{cursor!r} is no cursor of an SQLite store. Use one that append() or read() gave.")
    return int(cursor)


def _kinds(kind: str | Sequence[str] | None, *, has_index: bool) -> list[list[str]]:
    """The conditions on the kind, one list per arm. Indexes begin with the kind, so a filter wants it spelled out."""
    if kind is None:
        kinds: Sequence[str] = RECORD_KINDS if has_index else ()
    else:
        kinds = [kind] if isinstance(kind, str) else kind
    for name in kinds:
        if name not in RECORD_KINDS:
            raise ConfigError(
                f"unknown record kind {name!r}.{near_miss(name, RECORD_KINDS)} Known: {', '.join(RECORD_KINDS)}."
            )
    arms = [[f"kind = '{name}'"] for name in dict.fromkeys(kinds)]
    return arms or ([[]] if kind is None else [["0"]])


def _conditions(where: Where) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for field, wanted in where.items():
        expression = _expression(field)
        if wanted is None:
            conditions.append(f"{expression} IS NULL")
        elif isinstance(wanted, _SCALAR):
            conditions.append(f"{expression} = ?")
            values.append(wanted)
        else:
            conditions.append(_is_one_of(expression, field, wanted, values))
    return conditions, values


def _is_one_of(expression: str, field: str, wanted: Any, values: list[Any]) -> str:
    allowed = cast(list[Any], list(wanted)) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    for value in allowed:
        if value is not None and not isinstance(value, _SCALAR):
            raise ConfigError(
                f"filter {field!r}: a value is a string, a number, true, false or null, or a list of those; "
                f"this is {type(value).__name__}: {value!r:.80}"
            )
    # One bound JSON list instead of one parameter each: no limit on their number, one prepared statement for all.
    values.append(json.dumps([value for value in allowed if value is not None]))
    condition = f"{expression} IN (SELECT value FROM json_each(?))"
    return f"({condition} OR {expression} IS NULL)" if None in allowed else condition


def _expression(field: str) -> str:
    if field in _INDEXES:
        return field
    if not _PATH.fullmatch(field):
        raise ConfigError(
            f"filter {field!r} is no field: expected id, run, rollout, or a path into the body such as "
            "'features.success' (letters, digits, _ and -, joined by dots)."
        )
    path = "".join(f'."{part}"' for part in field.split("."))
    return f"json_extract(body, '${path}')"
