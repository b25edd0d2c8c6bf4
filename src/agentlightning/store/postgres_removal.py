"""Rows taken out of a PostgreSQL store. The store's own row counts them, so that `verify` knows what must be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentlightning.data.record import RECORD_KINDS
from agentlightning.store.base import Removal

if TYPE_CHECKING:
    from agentlightning.store.postgres_server import Server

ROLLOUTS_AT_ONCE = 500
TABLES = ("store", "records", "blobs", "blob_chunks")

_KINDS = ", ".join(f"'{kind}'" for kind in RECORD_KINDS)  # the indexes begin with it


def remove_rows(server: Server, removal: Removal) -> int:
    """Delete what is meant, a run or some rollouts at a time, and say how many rows that were."""
    return sum(_remove(server, condition, value) for condition, value in _conditions(removal))


def vacuum_tables(server: Server) -> None:
    """Make room for new rows where removed ones were. The tables shrink where their ends became free."""
    for table in TABLES:
        sql = f"VACUUM (ANALYZE) {server.address.schema}.{table}".encode()
        server.attempt(lambda connection, sql=sql: connection.execute(sql), "vacuumed")


def occupied_bytes(server: Server) -> int:
    """Of all tables, with their indexes."""
    sizes = " + ".join(f"pg_total_relation_size('{server.address.schema}.{table}')" for table in TABLES)
    [(size,)] = server.attempt(lambda connection: connection.execute(f"SELECT {sizes}".encode()).fetchall(), "read")
    return int(size)


def _conditions(removal: Removal) -> Iterator[tuple[str, Any]]:
    for run in removal.runs:
        yield "run = %s", run
    for start in range(0, len(removal.rollouts), ROLLOUTS_AT_ONCE):
        rollouts = removal.rollouts[start : start + ROLLOUTS_AT_ONCE]
        yield "run = '' AND rollout = ANY(%s::text[])", rollouts


def _remove(server: Server, condition: str, value: Any) -> int:
    """Rows and count change together. Done again after a lost connection, it finds what is left."""
    schema = server.address.schema
    delete = f"DELETE FROM {schema}.records WHERE kind IN ({_KINDS}) AND {condition}"
    count = f"UPDATE {schema}.store SET num_removed = num_removed + %s"

    def work(connection: Any) -> int:
        with connection.transaction():
            number = connection.execute(delete.encode(), [value]).rowcount
            connection.execute(count.encode(), [number])
        return number

    return server.attempt(work, "written")
