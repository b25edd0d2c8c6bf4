"""A filter becomes SQL whose every word is ours: kinds and paths are checked and written out, values are bound.

Kinds and paths are literals because SQLite uses an expression or partial index only when it sees the same text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from agentlightning.data.record import RECORD_KINDS
from agentlightning.errors import ConfigError
from agentlightning.store.base import Cursor, Where
from agentlightning.store.filters import COLUMNS as INDEXED
from agentlightning.store.filters import Condition, checked_conditions, checked_kinds
from agentlightning.store.sqlite_file import COLUMNS


class Query:
    """One filter, read a page at a time: `page` gives the SQL and the values for the rows between two positions."""

    def __init__(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool = False) -> None:
        conditions = checked_conditions(where)
        self._conditions = [_sql(condition) for condition in conditions]
        self._values = [value for condition in conditions for value in _bound(condition)]
        by_column = {condition.field: condition for condition in conditions if condition.field in INDEXED}
        index = next((column for column in INDEXED if column in by_column), None)
        # Said outright: without statistics SQLite may prefer `split`, or all rows of the kind, to a list of ids.
        self._table = f"records INDEXED BY records_by_{index}" if index else "records"
        # A list of ids is found in the order of the ids, so each page sorts what is left: positions only, not rows.
        self._sorts = any(condition.is_list for condition in by_column.values())
        self._kinds = _kind_conditions(checked_kinds(kind), has_index=index is not None)
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
    """The position a cursor stands for; 0 for None. ConfigError when it is no plain position."""
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        raise ConfigError(f"{cursor!r} is no cursor of this store. Use one that its append() or read() gave.")
    return int(cursor)


def _kind_conditions(kinds: list[str] | None, *, has_index: bool) -> list[list[str]]:
    """The conditions on the kind, one list per arm. Indexes begin with the kind, so a filter wants it spelled out."""
    if kinds is None:
        kinds = list(RECORD_KINDS) if has_index else None
    if kinds is None:
        return [[]]
    return [[f"kind = '{name}'"] for name in kinds] or [["0"]]


def _sql(condition: Condition) -> str:
    expression = condition.field if condition.field in INDEXED else _json_path(condition.field)
    if not condition.is_list:
        return f"{expression} IS NULL" if condition.or_null else f"{expression} = ?"
    # One bound JSON list instead of one parameter each: no limit on their number, one prepared statement for all.
    sql = f"{expression} IN (SELECT value FROM json_each(?))"
    return f"({sql} OR {expression} IS NULL)" if condition.or_null else sql


def _bound(condition: Condition) -> list[Any]:
    return [json.dumps(condition.values)] if condition.is_list else condition.values


def _json_path(field: str) -> str:
    path = "".join(f'."{part}"' for part in field.split("."))
    return f"json_extract(body, '${path}')"
