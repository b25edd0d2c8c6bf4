"""Rows taken out of an SQLite store, and the file made smaller by them.

On a connection of its own, so that a long removal holds up other writers no longer than one run's rows take.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from agentlightning.data.record import RECORD_KINDS
from agentlightning.store.base import Removal
from agentlightning.store.sqlite_file import Durability, connect, explained

ROLLOUTS_AT_ONCE = 500

_KINDS = ", ".join(f"'{kind}'" for kind in RECORD_KINDS)  # the indexes begin with it
OF_RUN = f"kind IN ({_KINDS}) AND run = ?"
OF_ROLLOUTS = f"kind IN ({_KINDS}) AND rollout IN (SELECT value FROM json_each(?)) AND run = ''"


def conditions(removal: Removal) -> Iterator[tuple[str, str]]:
    """What a removal means in SQL: conditions with the one value of each, small enough for one transaction each."""
    for run in removal.runs:
        yield OF_RUN, run
    for start in range(0, len(removal.rollouts), ROLLOUTS_AT_ONCE):
        rollouts = removal.rollouts[start : start + ROLLOUTS_AT_ONCE]
        yield OF_ROLLOUTS, json.dumps(rollouts)


def remove_rows(path: Path, durability: Durability, removal: Removal) -> int:
    """Delete what is meant, a run or some rollouts at a time, and say how many rows that were."""
    with explained(path, "written"), closing(connect(path, durability)) as connection:
        return sum(
            connection.execute(f"DELETE FROM records WHERE {condition}", [value]).rowcount
            for condition, value in conditions(removal)
        )


def vacuum_file(path: Path, durability: Durability) -> None:
    """Write the file anew without holes. Needs as much free disk as the file takes; writers wait meanwhile."""
    with explained(path, "written"), closing(connect(path, durability)) as connection:
        connection.execute("VACUUM")
        shorten_log(connection)


def shorten_log(connection: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file; what readers still look at stays for the next time."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
