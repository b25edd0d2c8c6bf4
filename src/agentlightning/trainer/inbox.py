"""Calls for an event loop from other threads: in order, with one wake-up for all that came since the last.

A wake-up writes to a socket, and takes the interpreter lock from whoever computes; what then runs finds nothing of
itself in the processor's caches. So where more calls can be expected soon, the loop waits a few milliseconds for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Inbox:
    """Of one loop. What comes after that has closed is dropped."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: Callable[[], float] = lambda: 0.0) -> None:
        """`patience`: for how many seconds a call may wait for others that may come."""
        self._loop = loop
        self._patience = patience
        self._waiting: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._is_woken = False

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call it soon; what it raises goes to the loop's exception handler."""
        self._waiting.append((function, args))
        if not self._is_woken and not self._loop.is_closed():
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._woken)

    def _woken(self) -> None:
        if (seconds := self._patience()) > 0:
            self._loop.call_later(seconds, self._empty)
        else:
            self._empty()

    def _empty(self) -> None:
        self._is_woken = False  # before looking: whoever comes from here on wakes the loop again
        while self._waiting:
            function, args = self._waiting.popleft()
            try:
                function(*args)
            except Exception as error:  # noqa: BLE001 - as the loop itself does it
                context = {"message": f"exception in {function!r}", "exception": error}
                self._loop.call_exception_handler(context)
