"""A thread that listens for what other processes commit, and rings the bell."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING

from agentlightning.errors import StoreError
from agentlightning.store.bell import Bell

if TYPE_CHECKING:
    from agentlightning.store.postgres_server import Connection, Server

RETRY_SECONDS = 2.0


class Listener:
    """Starts with the first watcher. While it has no connection (or the server allows no LISTEN), watchers poll."""

    def __init__(self, server: Server, channel: str) -> None:
        self._server = server
        self._channel = channel
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._wake, self._sleeper = socket.socketpair()

    def start(self, bell: Bell) -> None:
        """Listen from now on; more calls change nothing."""
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, args=[bell], name="store listener", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread and its connection."""
        with self._lock:
            self._is_closed = True
        self._wake.close()  # whoever waits on the other end wakes up
        if self._thread:
            self._thread.join()
        self._sleeper.close()

    def _run(self, bell: Bell) -> None:
        while not self._is_closed:
            try:
                with self._server.connect() as connection, self._server.explained("listened to"):
                    self._listen(connection, bell)
            except StoreError:
                # Nothing is lost: watchers look for themselves now and then. Somebody who needs the server is told.
                select.select([self._sleeper], [], [], RETRY_SECONDS)

    def _listen(self, connection: Connection, bell: Bell) -> None:
        connection.execute(f"LISTEN {self._channel}".encode())
        bell.ring()  # for what was committed before this moment
        while True:
            ready, _, _ = select.select([connection.fileno(), self._sleeper], [], [])
            if self._sleeper in ready:
                return
            for _ in connection.notifies(timeout=0):
                pass
            bell.ring()
