"""A store in PostgreSQL, for many hosts at once.

Its cursor is the row's position, given out under a row lock that is held until the commit has ended: see
`postgres_schema`. One commit carries whatever has gathered, in two round trips.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from agentlightning.data.record import Record
from agentlightning.errors import ConfigError, DataError, StoreError
from agentlightning.store.base import Cursor, Removal, Where
from agentlightning.store.bell import Bell
from agentlightning.store.paged import Page, PagedStore
from agentlightning.store.postgres_address import parse_address
from agentlightning.store.postgres_blobs import PostgresBlobs
from agentlightning.store.postgres_listener import Listener
from agentlightning.store.postgres_query import COLUMNS, PostgresQuery, fields_of
from agentlightning.store.postgres_removal import occupied_bytes, remove_rows, vacuum_tables
from agentlightning.store.postgres_schema import prepare
from agentlightning.store.postgres_server import LOCK_SECONDS, Server, is_lost
from agentlightning.store.rows import Row, row_of, stored_of
from agentlightning.store.sqlite_file import Durability
from agentlightning.store.sqlite_query import parse_cursor

if TYPE_CHECKING:
    from agentlightning.store.postgres_server import Connection

WATCH_SECONDS = 2.0
"""How often a watcher looks by itself; commits are announced at once, but a connection pooler may lose that."""


class PostgresStore(PagedStore):
    """`Store` in one schema of a database. Any number of threads, event loops, processes and hosts may use it."""

    def __init__(self, address: str, *, durability: Durability = "process") -> None:
        """Open `postgresql://…[?schema=name]`, making the schema's tables when missing.

        `durability="power"` asks the server to flush every commit, whatever its own `synchronous_commit` says.
        Raises ConfigError for an address that cannot be read, StoreError when the server cannot be used.
        """
        if durability not in get_args(Durability):
            raise ConfigError(f"durability {durability!r} is not known: use 'process' or 'power'.")
        server = Server(parse_address(address))
        try:
            prepare(server)
        except BaseException:
            server.close()
            raise
        super().__init__(server.address.shown, PostgresBackend(server, durability))


class PostgresBackend:
    """Reading on lent connections, writing on one lent for each commit."""

    def __init__(self, server: Server, durability: Durability) -> None:
        schema = server.address.schema
        self.place = server.address.shown
        self.watch_seconds = WATCH_SECONDS
        self.blobs = PostgresBlobs(server)
        self._server = server
        self._store, self._records = f"{schema}.store", f"{schema}.records"
        channel = f"agentlightning_{schema}"
        self._listener = Listener(server, channel)
        self._begin = _begin(durability)
        self._insert = _insert(schema, channel)
        self.check = server.check

    def row(self, record: Record) -> Row:
        row = row_of(record)
        if any("\0" in text for text in row[1:4]):
            raise DataError(
                f"{record.kind} {record.id!r}: PostgreSQL holds no U+0000 in an id, a run or a rollout. Leave it out."
            )
        return row

    def commit(self, groups: Sequence[Sequence[Row]]) -> Sequence[Cursor | Exception]:
        try:
            position = self._write([row for group in groups for row in group])
        except StoreError as error:
            if len(groups) == 1 or not _is_about_a_row(error):
                raise
            return [self._commit_alone(group) for group in groups]
        cursors: list[Cursor] = []
        for group in groups:
            position += len(group)
            cursors.append(Cursor(str(position)))
        return cursors

    def query(self, kind: str | Sequence[str] | None, where: Where | None, *, newest_first: bool) -> PostgresQuery:
        return PostgresQuery(kind, where, newest_first=newest_first)

    def ranges(self, since: Cursor | None) -> list[tuple[int, int]]:
        return [(parse_cursor(since), self.pulse())]

    def page(self, query: PostgresQuery, since: Cursor | None, after: int, until: int, limit: int) -> Page:
        sql, values = query.page(self._records, after, until, limit)
        rows = self._ask(sql, values)
        found = [(row[0], stored_of(row[1:8], Cursor(str(row[0])), self.place)) for row in rows]
        return Page(found, is_last=not rows or len(rows) == rows[0][8] < limit)

    def last(self) -> Cursor:
        return Cursor(str(self.pulse()))

    def pulse(self) -> int:
        return self._ask(f"SELECT last_position FROM {self._store}", [])[0][0]

    def listen(self, bell: Bell) -> None:
        self._listener.start(bell)

    def verify(self) -> list[str]:
        counts = f"SELECT last_position - num_removed, (SELECT count(*) FROM {self._records}) FROM {self._store}"
        [(last, count)] = self._ask(counts, [])
        if last == count:
            return []
        return [f"{self.place}: {last} records were written, {count} are there. Were rows changed by hand?"]

    def remove(self, removal: Removal) -> int:
        return remove_rows(self._server, removal)

    def vacuum(self) -> None:
        vacuum_tables(self._server)

    def occupied(self) -> int:
        return occupied_bytes(self._server)

    def close(self) -> None:
        self._listener.close()
        self._server.close()

    def _ask(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._server.attempt(lambda connection: connection.execute(sql.encode(), values).fetchall(), "read")

    def _commit_alone(self, group: Sequence[Row]) -> Cursor | Exception:
        try:
            return self.commit([group])[0]
        except StoreError as error:
            return error

    def _write(self, rows: list[Row]) -> int:
        """Commit the rows and give the position before the first. Done once, also when the connection is lost."""
        if not rows:
            return self.pulse()
        sent = msgspec.json.encode([_Sent(*row, msgspec.Raw(fields_of(row[-1]).encode())) for row in rows])
        values = [len(rows), len(rows), sent.decode()]
        given: list[int] = []

        def work(connection: Connection) -> int:
            # Only a commit that was asked for leaves a doubt; up to there, a lost connection rolls back.
            if given and self._is_kept(connection, given[0], rows):
                return given[0]
            given.clear()
            connection.execute(self._begin)
            [(position,)] = connection.execute(self._insert, values).fetchall()
            given.append(position)
            connection.execute("COMMIT")
            return position

        try:
            return self._server.attempt(work, "written")
        except StoreError as error:
            if given and is_lost(error):
                raise StoreError(
                    f"{error} It is not known whether this was kept; look before writing it again."
                ) from error
            raise

    def _is_kept(self, connection: Connection, position: int, rows: list[Row]) -> bool:
        """Whether a commit whose answer was lost took place. Waits for it to end by asking for the lock it holds."""
        with connection.transaction():
            connection.execute(f"SELECT FROM {self._store} FOR UPDATE".encode())
            select = f"SELECT {COLUMNS} FROM {self._records} WHERE position = %s".encode()
            last = connection.execute(select, [position + len(rows)]).fetchone()
        return last is not None and last[1:] == rows[-1]


def _begin(durability: Durability) -> bytes:
    flush = "SET LOCAL synchronous_commit = on; " if durability == "power" else ""
    limits = f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; SET LOCAL idle_in_transaction_session_timeout = '30s'"
    return f"BEGIN; {flush}{limits}".encode()


class _Sent(msgspec.Struct):
    """A row on its way to the server. One JSON document is faster than eight arrays, by far, and as fast as COPY."""

    kind: str
    id: str
    run: str
    rollout: str
    time: float
    version: int
    body: str
    fields: msgspec.Raw


def _insert(schema: str, channel: str) -> bytes:
    types = "kind text, id text, run text, rollout text, time float8, version int, body text, fields jsonb"
    columns = ", ".join(_Sent.__struct_fields__)
    return f"""
        WITH counter AS (
            UPDATE {schema}.store SET last_position = last_position + %s RETURNING last_position - %s AS before
        ), added AS (
            INSERT INTO {schema}.records (position, {columns})
            SELECT before + number, {columns}
            FROM counter,
                ROWS FROM (json_to_recordset(%s::json) AS ({types})) WITH ORDINALITY AS given ({columns}, number)
        )
        SELECT before FROM counter, pg_notify('{channel}', '')
    """.encode()


def _is_about_a_row(error: StoreError) -> bool:
    """Too long for an index, or otherwise refused for what it holds: others of the same commit may be fine."""
    code = getattr(error.__cause__, "sqlstate", None) or ""
    return code.startswith(("22", "54")) and not is_lost(error)
