"""The user wants to stop: nothing new begins, what is in flight ends as usual and is saved, then the run ends.

A second wish to stop does not come here; it cancels the run (`own_loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RunInterrupted(BaseException):
    """Raised where something new would have begun. No `Exception`: nothing in an algorithm may go on because of it."""


class Interrupt:
    """Asked before anything begins. Lives on one event loop."""

    def __init__(self, on_ask: Callable[[], None] | None = None) -> None:
        self._event = asyncio.Event()
        self._on_ask = on_ask

    def ask(self) -> None:
        """Let nothing more begin."""
        if not self._event.is_set():
            self._event.set()
            if self._on_ask is not None:
                self._on_ask()

    def check(self) -> None:
        """Raise RunInterrupted when nothing more may begin."""
        if self._event.is_set():
            raise RunInterrupted("stopped by Ctrl-C")

    async def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until it is asked for; then raise."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        self.check()
