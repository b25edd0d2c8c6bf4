"""A bell that wakes watchers in whichever event loops they run, rung from any thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress


class Bell:
    """`ring` sets the event of everybody who hears it."""

    def __init__(self) -> None:
        self._ears: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()

    @contextmanager
    def heard(self) -> Generator[asyncio.Event]:
        """An event that is set at every ring while the block runs."""
        event = asyncio.Event()
        with self._lock:
            self._ears[event] = asyncio.get_running_loop()
        try:
            yield event
        finally:
            with self._lock:
                del self._ears[event]

    def ring(self) -> None:
        """Wake everybody who hears."""
        with self._lock:
            for event, loop in self._ears.items():
                with suppress(RuntimeError):  # a loop that was closed with its watcher unfinished hears nothing
                    loop.call_soon_threadsafe(event.set)
