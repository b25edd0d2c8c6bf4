"""Runs inside the sandbox: SQL queries on a copy of a SQLite database, their rows as one line of JSON each.

A program of its own, with the standard library alone. Standard input: {"queries": […], "max_rows": n}. The first line
of output is the first query's, so a query that never ends does not take those before it along.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from typing import Any

_HARMLESS = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}


def main() -> None:
    given = json.load(sys.stdin)
    for query in given["queries"]:
        print(json.dumps(answer(query, given["max_rows"])), flush=True)  # noqa: T201 - its output is what it is for


def answer(query: str, max_rows: int) -> dict[str, Any]:
    """The columns and rows of a query, or the error it ended with."""
    connection = sqlite3.connect("file:database.sqlite?mode=ro", uri=True)
    connection.text_factory = lambda text: text.decode(errors="replace")
    connection.set_authorizer(_allow)
    try:
        cursor = connection.execute(query)
        rows = cursor.fetchmany(max_rows + 1)
        columns = [column[0] for column in cursor.description or []]
    except (sqlite3.Error, sqlite3.Warning, MemoryError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        connection.close()
    if len(rows) > max_rows:
        return {"error": f"it returns more than {max_rows} rows"}
    return {"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]}


def _allow(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    if action not in _HARMLESS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY if second and second.lower() == "load_extension" else sqlite3.SQLITE_OK


def _plain(value: Any) -> Any:
    return {"blob": value.hex()} if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
