"""The tables of a PostgreSQL store, made and brought up to date under a lock, so that many may open it at once.

`store` has one row: the format, and the last position given out. A commit raises it and holds its row lock until it
has ended, so positions are given out in the order of commits, without gaps, and a reader that has seen position n never
finds a smaller one later. A foreign transaction that is long open cannot hold readers back, as it would if they waited
for `pg_snapshot_xmin`, which counts every transaction of the whole server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlightning.errors import StoreError
from agentlightning.store.sqlite_file import INDEXED_PATHS

if TYPE_CHECKING:
    from agentlightning.store.postgres_server import Connection, Server

_FIRST = (
    """CREATE TABLE {schema}.store (
        is_the_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_the_only_row),
        format integer NOT NULL,
        last_position bigint NOT NULL
    )""",
    "INSERT INTO {schema}.store (format, last_position) VALUES (0, 0)",
    """CREATE TABLE {schema}.records (
        position bigint PRIMARY KEY,
        kind text NOT NULL,
        id text NOT NULL,
        run text NOT NULL,
        rollout text NOT NULL,
        time double precision NOT NULL,
        version integer NOT NULL,
        body text NOT NULL,
        fields jsonb NOT NULL
    )""",
    "CREATE INDEX records_by_kind ON {schema}.records (kind, position)",
    "CREATE INDEX records_by_id ON {schema}.records (kind, id, position)",
    "CREATE INDEX records_by_run ON {schema}.records (kind, run, position)",
    "CREATE INDEX records_by_rollout ON {schema}.records (kind, rollout, position)",
    *(
        f"CREATE INDEX rollouts_by_{path} ON {{schema}}.records ((fields -> '{path}'), position) WHERE kind = 'rollout'"
        for path in INDEXED_PATHS
    ),
    """CREATE TABLE {schema}.blobs (
        sha256 text PRIMARY KEY,
        size bigint NOT NULL,
        upload uuid NOT NULL,
        replaced uuid
    )""",
    """CREATE TABLE {schema}.blob_chunks (
        upload uuid NOT NULL,
        number integer NOT NULL,
        bytes bytea NOT NULL,
        PRIMARY KEY (upload, number)
    )""",
    "ALTER TABLE {schema}.blob_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL",  # weights do not compress
)

_REMOVAL = ("ALTER TABLE {schema}.store ADD COLUMN num_removed bigint NOT NULL DEFAULT 0",)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _REMOVAL)
"""Statements that lead from format n to n + 1. Never change one that was released; append."""

MIN_SERVER = 130000


def prepare(server: Server) -> None:
    """Make the tables, or bring them up to date. Somebody who may only read can open a store that is up to date.

    StoreError for a store from a newer release, a server too old, a database that is not UTF-8, or no permission.
    """
    with server.lent() as connection, server.explained("opened"):
        _check_server(connection, server.address.shown)
        if _format(connection, server) == len(MIGRATIONS):
            return
        with connection.transaction():
            schema = server.address.schema
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"agentlightning {schema}"])
            present = _format(connection, server)  # another process may have been faster
            if present is None:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}".encode())
            for statements in MIGRATIONS[present or 0 :]:
                for statement in statements:
                    connection.execute(statement.format(schema=schema).encode())
            connection.execute(f"UPDATE {schema}.store SET format = {len(MIGRATIONS)}".encode())


def _check_server(connection: Connection, shown: str) -> None:
    if connection.info.server_version < MIN_SERVER:
        raise StoreError(f"store {shown}: PostgreSQL {MIN_SERVER // 10_000} or later is needed.")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            f"store {shown}: the database's encoding is {encoding}, which cannot hold every text. "
            "Make one with `createdb --encoding UTF8 --template template0 NAME`."
        )


def _format(connection: Connection, server: Server) -> int | None:
    """The format that is there, None when there is no store."""
    schema = server.address.schema
    # Not to_regclass: within a transaction it may answer from a cache that misses what another has just made.
    is_there = "SELECT FROM pg_catalog.pg_tables WHERE schemaname = %s AND tablename = 'store'"
    if connection.execute(is_there, [schema]).fetchone() is None:
        return None
    row = connection.execute(f"SELECT max(format) FROM {schema}.store".encode()).fetchone()
    present: int = row[0] if row and row[0] is not None else 0
    if present > len(MIGRATIONS):
        raise StoreError(
            f"store {server.address.shown} was written by a newer release (format {present}; this release reads up to "
            f"{len(MIGRATIONS)}). Upgrade:  pip install -U agentlightning"
        )
    return present
