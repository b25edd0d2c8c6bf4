"""Async inside, sync at the door: a coroutine runs to its end on a loop of its own, whatever loop the caller has."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def on_own_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on a new loop in a new thread and wait for it. Ctrl-C cancels it and waits until it has ended."""
    outcome: list[T] = []
    failure: list[BaseException] = []
    ready = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []

    async def main() -> T:
        task = asyncio.ensure_future(make())
        running.append((asyncio.get_running_loop(), task))
        ready.set()
        return await task

    def work() -> None:
        try:
            outcome.append(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - raised again below, on the caller's thread
            failure.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="agentlightning-trainer")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        ready.wait()
        for loop, task in running:
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]
