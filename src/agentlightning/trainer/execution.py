"""Runs one agent once, wherever it can run: sync agents on a thread of their own, async ones on the agents' loop.

All async rollouts share one event loop, because agents keep clients at module level and an async client belongs to the
loop that first used it. A sync agent that hangs keeps its thread (Python cannot end one); its scope is closed, so it
can no longer reach a model, and the thread is a daemon, so it cannot hold the process.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

from agentlightning.adapters.within import joined
from agentlightning.interception.scope import Scope, entered


class RolloutTimeout(Exception):
    """The agent did not answer in time."""


class AgentThreads:
    """Where agents run. One per run; `close` ends the agents' loop."""

    def __init__(self) -> None:
        self.num_abandoned = 0
        """Threads of sync agents that were still running at their time-out."""
        self._context = copy_context()
        self._idle: deque[_Worker] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    async def run(self, invoke: Callable[[], Any], scope: Scope, timeout_seconds: float) -> Any:
        """What the agent returns, its generators consumed. Raises what it raises, or RolloutTimeout."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if outcome.done():
                return
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(_Raised(error))

        def work() -> None:
            result, error = None, None
            try:
                with entered(scope):
                    result = self._finish(invoke(), scope, timeout_seconds)
            except BaseException as caught:  # noqa: BLE001 - handed to the waiting rollout, which tells kinds apart
                error = caught
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, result, error)

        worker = self._worker()
        worker.jobs.put(partial(self._context.copy().run, work))
        try:
            return await asyncio.wait_for(outcome, timeout_seconds)
        except TimeoutError:
            self.num_abandoned += worker not in self._idle
            raise RolloutTimeout(f"no answer after {timeout_seconds:g} s") from None
        except _Raised as raised:
            raise raised.error from None
        finally:
            scope.close()

    def close(self) -> None:
        """Let idle threads go and stop the agents' loop, cancelling what still runs on it."""
        while self._idle:
            self._idle.pop().jobs.put(None)
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=5)

    def _worker(self) -> _Worker:
        """An idle thread, or a new one: starting a thread waits for it to run, which costs more than a rollout."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker(self._idle)

    def _finish(self, result: Any, scope: Scope, timeout_seconds: float) -> Any:
        """Await what is awaitable and drain what is a generator, on the agent's own thread."""
        if inspect.isgenerator(result):
            return joined(list(result))
        if inspect.isasyncgen(result):
            return self._on_loop(_drain(result), scope, timeout_seconds)
        if inspect.isawaitable(result):
            return self._on_loop(_await(result), scope, timeout_seconds)
        return result

    def _on_loop(self, coroutine: Any, scope: Scope, timeout_seconds: float) -> Any:
        async def scoped() -> Any:
            with entered(scope):
                return await coroutine

        future = asyncio.run_coroutine_threadsafe(scoped(), self._agents_loop())
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            if future.done():  # the agent's own
                raise
            future.cancel()
            raise RolloutTimeout(f"no answer after {timeout_seconds:g} s") from None

    def _agents_loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="agentlightning-async-agents", daemon=True
                )
                self._thread.start()
            return self._loop


class _Worker:
    """A thread that runs one agent after the other; while one hangs, it is simply not among the idle."""

    def __init__(self, idle: deque[_Worker]) -> None:
        self.jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._serve, name="agentlightning-agent", daemon=True).start()

    def _serve(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()
            self._idle.append(self)


class _Raised(Exception):
    """Carries any exception across a future, which would treat StopIteration and CancelledError specially."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(repr(error))
        self.error = error


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        _hang_up(loop)
        loop.close()


def _hang_up(loop: asyncio.AbstractEventLoop) -> None:
    """End the connections that agents' clients keep for later.

    A client used again on another loop finds them dead and opens new ones; on the closed loop it could not even let
    them go ("Event loop is closed").
    """
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


async def _await(awaitable: Any) -> Any:
    result = await awaitable
    return await _drain(result) if inspect.isasyncgen(result) else result


async def _drain(generator: Any) -> Any:
    return joined([item async for item in generator])
