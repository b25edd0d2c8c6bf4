"""Connections to a PostgreSQL server: made, lent, made again when lost, and what their errors mean.

Work that may be done twice (reading) is tried again on a new connection for RECONNECT_SECONDS; whoever writes asks
for `attempt` only where doing it twice is harmless.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from agentlightning.errors import ConfigError, MissingExtra, StoreError
from agentlightning.store.group_commit import closed, forked
from agentlightning.store.postgres_address import PostgresAddress

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

T = TypeVar("T")

RECONNECT_SECONDS = 30.0
"""How long a lost server is waited for (a restart, a failover) before the work that needs it fails."""

LOCK_SECONDS = 60
MAX_IDLE = 4

_DEFAULTS: dict[str, Any] = {
    "application_name": "agentlightning",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""Added where the address and the environment say nothing, so that a dead network is noticed within a minute."""


class Server:
    """One address, and the idle connections to it. Used from any thread."""

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._psycopg = _driver()
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._is_closed = False
        self._process = os.getpid()
        self._settings = self._read_settings()

    def connect(self) -> Connection:
        """A new connection in autocommit mode. StoreError when there is none to be had."""
        with self.explained("reached"):
            # Without prepared statements, so that a connection pooler in between may switch servers.
            return self._psycopg.connect(**self._settings, autocommit=True, prepare_threshold=None)

    def attempt(self, work: Callable[[Connection], T], action: str) -> T:
        """The result of work that may be done again: a lost connection is replaced until RECONNECT_SECONDS are over."""
        deadline, pause = time.monotonic() + RECONNECT_SECONDS, 0.05
        while True:
            try:
                with self.lent() as connection, self.explained(action):
                    return work(connection)
            except StoreError as error:
                self.check()
                if not is_lost(error) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    @contextmanager
    def lent(self) -> Generator[Connection]:
        """A connection for the length of the block; kept afterwards unless it broke."""
        self.check()
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self.connect()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def check(self) -> None:
        """StoreError when closed, or carried into a forked process."""
        if self._is_closed:
            raise closed(self.address.shown)
        if os.getpid() != self._process:
            raise forked(self.address.shown)

    def close(self) -> None:
        """End the idle connections; those lent end when they are given back."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextmanager
    def explained(self, action: str) -> Generator[None]:
        """Turn the driver's errors inside the block into a StoreError that says where, what and what to do."""
        try:
            yield
        except self._psycopg.Error as error:
            raise StoreError(self._message(error, action)) from error

    def _give_back(self, connection: Connection) -> None:
        if connection.broken:  # whatever ended this one has probably ended the others too
            with self._lock:
                idle, self._idle = [connection, *self._idle], []
            for one in idle:
                one.close()
            return
        is_usable = not connection.closed and connection.info.transaction_status == 0
        with self._lock:
            if is_usable and not self._is_closed and len(self._idle) < MAX_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _read_settings(self) -> dict[str, Any]:
        try:
            given = self._psycopg.conninfo.conninfo_to_dict(self.address.libpq)
        except self._psycopg.ProgrammingError as error:
            raise ConfigError(
                f"{self.address.shown} is no PostgreSQL address: {self.address.masked(error).strip()}. "
                "Write postgresql://user@host:5432/database, and special characters in a password as %XX."
            ) from error
        from_environment = {"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}
        defaults = {key: value for key, value in _DEFAULTS.items() if from_environment.get(key, "") not in os.environ}
        return {**defaults, **given}

    def _message(self, error: psycopg.Error, action: str) -> str:
        text = self.address.masked(error).strip().partition("\n")[0] or type(error).__name__
        return f"store {self.address.shown} could not be {action}: {text}. {_remedy(error.sqlstate, text)}"


def is_lost(error: StoreError) -> bool:
    """The server was not there, or went away; it may come back. Refusals (a wrong password) are not of this kind."""
    cause: Any = error.__cause__
    if not isinstance(cause, _driver().OperationalError):
        return False
    if cause.sqlstate is None:  # said by the client: no connection, or one that ended
        return not any(word in str(cause) for word in _REFUSALS)
    return cause.sqlstate.startswith("08") or cause.sqlstate in ("57P01", "57P02", "57P03")


_REFUSALS = {
    "authentication failed": "credentials",
    "no password supplied": "credentials",
    "no pg_hba.conf entry": "credentials",
    "certificate": "credentials",
    "role ": "credentials",
    "definition of service": "address",
    "does not exist": "database",
}
"""Words by which a connection is refused for good, and what they are about. The client gives no code for these."""

_REMEDIES = {
    "credentials": "Check user and password (in the address, PGPASSWORD, ~/.pgpass or a service file), and whether "
    "they have expired.",
    "address": "Check the address, ~/.pg_service.conf and PGSERVICEFILE.",
    "database": "Create it (`createdb NAME`), or correct the address.",
    "42501": "Ask the owner of the schema to GRANT this user what it needs, or open the store as another user.",
    "25006": "This server or user may only read. Write to the primary server, or as another user.",
    "53100": "The server's disk is full, and nothing of this was kept. Free some space there and try again.",
    "53300": "Raise max_connections on the server, or put a connection pooler before it.",
    "55P03": f"Another client has held the store's lock for over {LOCK_SECONDS} seconds: find it in pg_stat_activity "
    "and end it (pg_terminate_backend), then append again.",
    "25P03": "The network stood still in the middle of a write; nothing of it was kept. Append again.",
    "54000": "Shorten the record's id, run or rollout.",
}


def _remedy(code: str | None, text: str) -> str:
    if code is None:
        about = next((topic for word, topic in _REFUSALS.items() if word in text), None)
        return _REMEDIES[about] if about else "Is the server running, and reachable from here?"
    return _REMEDIES.get(code, f"(SQLSTATE {code})")


def _driver() -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise MissingExtra(
            "a store at postgresql:// needs the psycopg package:  pip install 'agentlightning[postgres]'"
        ) from error
