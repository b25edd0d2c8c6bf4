"""A filter as PostgreSQL's SQL, and the form in which a body's fields are kept for it.

The body is text, exact to the last digit; beside it stands `fields`, a flat JSON object `{"a.b": value}` of the body's
scalars, which is what filters look at. PostgreSQL's own JSON cannot hold U+0000, so a text with one (or a long one)
stands there as its hash, on both sides of the comparison.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from agentlightning.data.record import RECORD_KINDS
from agentlightning.store.base import Where
from agentlightning.store.filters import COLUMNS as INDEXED
from agentlightning.store.filters import Condition, Scalar, checked_conditions, checked_kinds
from agentlightning.store.paged import PAGE_BYTES

COLUMNS = "position, kind, id, run, rollout, time, version, body"
MAX_TEXT = 200
"""Characters of a text that are kept in `fields` as they are; a longer one is compared by hash."""


def fields_of(body: str) -> str:
    """The `fields` of a body: every scalar that a path can reach; a list or mapping is there, but equals nothing."""
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any]] = [("", msgspec.json.decode(body))]
    while waiting:
        prefix, mapping = waiting.pop()
        for key, value in mapping.items():
            if "." in key or "\0" in key or value is None:  # no path reaches the first two, and null is like nothing
                continue
            if isinstance(value, dict):
                waiting.append((f"{prefix}{key}.", value))
            found[f"{prefix}{key}"] = [] if isinstance(value, dict | list) else comparable(value)
    return msgspec.json.encode(found).decode()


def comparable(value: Scalar) -> Scalar:
    """The value in the one form in which equal values are equal: true is 1, and 2.0 is 2."""
    if isinstance(value, str):
        is_short = len(value) <= MAX_TEXT and "\0" not in value
        return value if is_short else "sha256:" + hashlib.sha256(value.encode()).hexdigest()
    if isinstance(value, float) and not (value.is_integer() and abs(value) < 2**63):
        return value
    return int(value)


class PostgresQuery:
    """One filter, read a page at a time, like SQLite's `Query`."""

    def __init__(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool) -> None:
        conditions = checked_conditions(where)
        self._conditions = [_sql(condition) for condition in conditions]
        self._values = [_bound(condition) for condition in conditions if condition.values or condition.is_list]
        columns = [condition for condition in conditions if condition.field in INDEXED]
        # A list of ids is found first, whole: left to itself, PostgreSQL may walk all rows in order looking for them.
        self._gathers = any(condition.is_list for condition in columns)
        kinds = checked_kinds(kind)
        self._kinds = list(RECORD_KINDS) if kinds is None and columns else kinds
        self._direction = "DESC" if newest_first else "ASC"

    def page(self, table: str, after: int, until: int, limit: int) -> tuple[str, list[Any]]:
        """Rows with after < position <= until, at most `limit` and about PAGE_BYTES, in order.

        A ninth column says how many rows the limit alone would have let in. One SELECT per kind: each walks its index.
        """
        order = f"ORDER BY position {self._direction}"
        end = "" if self._gathers else f"{order} LIMIT {limit}"
        kinds = [""] if self._kinds is None else [f"kind = '{name}' AND " for name in self._kinds]
        rest = " AND ".join([*self._conditions, "position > %s", "position <= %s"])
        arms = [f"(SELECT position FROM {table} WHERE {kind}{rest} {end})" for kind in kinds]
        found = " UNION ALL ".join(arms) or "SELECT 0::bigint AS position WHERE false"
        sized = (
            f"SELECT {COLUMNS}, sum(octet_length(body)) OVER ({order}) - octet_length(body) AS before, "
            f"count(*) OVER () AS found FROM {table} "
            f"WHERE position = ANY(ARRAY(SELECT position FROM found {order} LIMIT {limit}))"
        )
        sql = (
            f"WITH found AS MATERIALIZED ({found}), sized AS ({sized}) "
            f"SELECT {COLUMNS}, found FROM sized WHERE before <= {PAGE_BYTES} {order}"
        )
        return sql, [*self._values, after, until] * len(arms)


def _sql(condition: Condition) -> str:
    if condition.field in INDEXED:
        expression, kind = condition.field, "text"
    else:
        expression, kind = f"(fields -> '{condition.field}')", "jsonb"
    if not condition.is_list:
        return f"{expression} IS NULL" if condition.or_null else f"{expression} = %s::{kind}"
    sql = f"{expression} = ANY(%s::{kind}[])"
    return f"({sql} OR {expression} IS NULL)" if condition.or_null else sql


def _bound(condition: Condition) -> str | list[str]:
    form = _column_value if condition.field in INDEXED else _field_value
    values = [form(value) for value in condition.values]
    return values if condition.is_list else values[0]


def _column_value(value: Scalar) -> str:
    # A column never holds U+0000, so a value with one must match nothing; no id of ours is this one.
    return "\ufffe" if "\0" in str(value) else str(value)


def _field_value(value: Scalar) -> str:
    # Infinity equals nothing, and JSON has no word for it: a list equals no scalar.
    if isinstance(value, float) and not math.isfinite(value):
        return "[1]"
    return msgspec.json.encode(comparable(value)).decode()
