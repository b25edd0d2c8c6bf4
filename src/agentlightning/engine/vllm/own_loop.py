"""An event loop on a thread of its own, for work that is asked for from any thread.

Work begins in an empty context: the scope of the agent that asked must not reach our own requests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


class OwnLoop:
    """Runs until `close`."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]], future: Future[T] | None = None) -> Future[T]:
        """The coroutine's outcome. Cancelling the future cancels it."""
        told: Future[T] = future if future is not None else Future()

        def begin() -> None:
            task = self._loop.create_task(make())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda done: _tell(told, done))
            told.add_done_callback(lambda _: self._soon(task.cancel))

        self._soon(begin)
        return told

    def close(self) -> None:
        """What still runs is cancelled."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _soon(self, work: Callable[[], Any]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work, context=Context())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _cancel_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell(told: Future[T], done: asyncio.Task[T]) -> None:
    if told.done() or not told.set_running_or_notify_cancel():
        return
    if done.cancelled():
        told.set_exception(asyncio.CancelledError())
    elif error := done.exception():
        told.set_exception(error)
    else:
        told.set_result(done.result())
