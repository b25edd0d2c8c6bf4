"""Async inside, sync at the door: a coroutine runs to its end on a loop of its own, whatever loop the caller has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from agentlightning.errors import AgentLightningError, ConfigError
from agentlightning.trainer.interrupt import RunInterrupted

T = TypeVar("T")

_refusals: list[str] = []


@contextmanager
def refusing(why: str) -> Generator[None]:
    """No run may begin in this block, on any thread: a ConfigError says why."""
    _refusals.append(why)
    try:
        yield
    finally:
        _refusals.remove(why)


class _Thread(threading.Thread):
    """Runs the coroutine; `call` reaches its loop from other threads, and is lost when that has ended."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        super().__init__(name="agentlightning-trainer")
        self.outcome: list[Any] = []
        self.failure: BaseException | None = None
        self.has_ended = threading.Event()
        """Waited for in place of `join`, which after a Ctrl-C takes a running thread for ended."""
        self._make = make
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def run(self) -> None:
        try:
            self.outcome.append(asyncio.run(self._main()))
        except BaseException as error:  # noqa: BLE001 - raised again below, on the caller's thread
            self.failure = error
        finally:
            self._ready.set()
            self.has_ended.set()

    def call(self, function: Callable[[], object]) -> None:
        self._ready.wait()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def cancel(self) -> None:
        self.call(lambda: self._task.cancel() if self._task is not None else None)

    async def _main(self) -> Any:
        self._task = asyncio.ensure_future(self._make())
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        return await self._task


def on_own_loop(make: Callable[[], Coroutine[Any, Any, T]], on_interrupt: Callable[[], object] | None = None) -> T:
    """Run a coroutine on a new loop in a new thread and wait for it.

    Ctrl-C calls `on_interrupt` on that loop, which should bring the coroutine to an end of its own; the second Ctrl-C
    (the first without `on_interrupt`) cancels it. Its end is waited for, and KeyboardInterrupt is raised if that was
    not its own.
    """
    if _refusals:
        raise ConfigError(_refusals[-1])
    thread = _Thread(make)
    thread.start()
    steps = [thread.cancel] if on_interrupt is None else [lambda: thread.call(on_interrupt), thread.cancel]
    interrupt: KeyboardInterrupt | None = None
    while not thread.has_ended.is_set():
        try:
            thread.has_ended.wait()
        except KeyboardInterrupt as pressed:
            interrupt = pressed
            if steps:
                steps.pop(0)()
    if interrupt is not None and isinstance(thread.failure, RunInterrupted | asyncio.CancelledError):
        raise interrupt
    if isinstance(thread.failure, AgentLightningError):
        raise thread.failure.with_traceback(None)  # it says what to do: our own frames would hide that
    if thread.failure is not None:
        raise thread.failure
    return thread.outcome[0]
