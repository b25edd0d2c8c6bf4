"""What a removal does to the local index of object segments.

A removal is a segment, and takes away what stands in segments with a lower clock than its own. So all readers agree on
it in whatever order the segments reach them, and a run that is carried on afterwards keeps what it writes then.
"""

from __future__ import annotations

import sqlite3

import msgspec

from agentlightning.store.base import Removal
from agentlightning.store.sqlite_removal import conditions


def keep_removal(connection: sqlite3.Connection, clock: int, removal: Removal) -> None:
    """Remember a removal, and apply it to what is there."""
    encoded = [msgspec.json.encode(ids).decode() for ids in (removal.runs, removal.rollouts)]
    connection.execute("INSERT INTO removals (clock, runs, rollouts) VALUES (?, ?, ?)", [clock, *encoded])
    apply_removal(connection, clock, removal)


def read_removals(connection: sqlite3.Connection, *, after: int = -1) -> list[tuple[int, Removal]]:
    """The removals with a higher clock, and those clocks."""
    rows = connection.execute("SELECT clock, runs, rollouts FROM removals WHERE clock > ? ORDER BY clock", [after])
    return [
        (clock, Removal(msgspec.json.decode(runs), msgspec.json.decode(rollouts))) for clock, runs, rollouts in rows
    ]


def apply_removal(connection: sqlite3.Connection, clock: int, removal: Removal) -> None:
    """Delete the rows of segments with a lower clock, and mark those segments as holding removed rows."""
    positions = sorted({p for given in conditions(removal) for p in positions_of(connection, *given)})
    if not positions:
        return
    select = "SELECT arrival, until, own_clock FROM segments WHERE until > after AND until >= ? ORDER BY until"
    segments = connection.execute(select, [positions[0]])
    gone: list[tuple[int]] = []
    heavy: set[tuple[int]] = set()
    arrival = until = own_clock = 0
    for position in positions:
        while position > until:
            arrival, until, own_clock = next(segments)
        if own_clock < clock:
            gone.append((position,))
            heavy.add((arrival,))
    connection.executemany("DELETE FROM records WHERE position = ?", gone)
    connection.executemany("UPDATE segments SET is_heavy = 1 WHERE arrival = ?", heavy)


def positions_of(connection: sqlite3.Connection, condition: str, value: str) -> list[int]:
    """Where the rows are that a condition means."""
    rows = connection.execute(f"SELECT position FROM records WHERE {condition}", [value])
    return [position for (position,) in rows]
