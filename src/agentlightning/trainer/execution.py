"""Runs one agent once, wherever it can run: sync agents on a thread of their own, async ones on the agents' loop.

A thread is held only while code of the agent runs on it, so thousands of async rollouts wait without one.

A sync agent that hangs keeps its thread (Python cannot end one); its scope is closed, so it can no longer reach a
model, and the thread is a daemon, so it cannot hold the process.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from agentlightning.adapters.within import joined
from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.task import Task
from agentlightning.interception.scope import Scope, entered
from agentlightning.trainer.agents_loop import AgentsLoop
from agentlightning.trainer.inbox import Inbox

_NOT_THE_AGENTS = ("site-packages", str(Path(__file__).parents[1]) + os.sep, "<frozen", os.path.dirname(os.__file__))
"""Files in which an agent's exception may end up, but not the line its author looks for."""


class Seat(Protocol):
    """A place where one rollout of the agent runs, with what is done before and after it."""

    async def run_agent(self, task_input: Any, scope: Scope, timeout_seconds: float) -> Any:
        """What the agent gives for a task's input, its generators consumed. Raises what it raises, RolloutTimeout, or
        AgentFailed."""
        ...

    async def run_around(self, name: Around, task: Task, timeout_seconds: float) -> None:
        """Call the agent's own `set_up` or `tear_down`, if it has one."""
        ...


Around = Literal["set_up", "tear_down"]


class RolloutTimeout(Exception):
    """The agent did not answer in time."""


class AgentFailed(Exception):
    """The agent failed where its exception cannot come from; the text describes it in full."""


class AgentThreads:
    """Where agents run. One per run."""

    def __init__(self, agent: WrappedAgent | None = None, inbox: Inbox | None = None) -> None:
        """`inbox`: of the loop that asks for runs, where whoever made this has one."""
        self._agent = agent
        self._inbox = inbox
        self.num_abandoned = 0
        """Threads of sync agents that were still running at their time-out."""
        self._context = copy_context()
        self._idle: deque[_Worker] = deque()
        self._loop = AgentsLoop()

    def seat(self) -> AbstractAsyncContextManager[Seat]:
        """This itself: a thread is taken when something runs."""
        return nullcontext(self)

    async def run_agent(self, task_input: Any, scope: Scope, timeout_seconds: float) -> Any:
        assert self._agent is not None
        return await self.run(partial(self._agent.adapter.invoke, task_input), scope, timeout_seconds)

    async def run_around(self, name: Around, task: Task, timeout_seconds: float) -> None:
        assert self._agent is not None
        await self.run(partial(call_around, self._agent, name, task), Scope(name), timeout_seconds)

    async def run(self, invoke: Callable[[], Any], scope: Scope, timeout_seconds: float) -> Any:
        """What the agent returns, its generators consumed. Raises what it raises, or RolloutTimeout."""
        loop = asyncio.get_running_loop()
        if self._inbox is None:
            self._inbox = Inbox(loop)
        job = _Job(loop.create_future(), self._inbox)
        worker = self._worker()
        worker.jobs.put(partial(self._context.copy().run, partial(self._begin, job, invoke, scope)))
        alarm = loop.call_later(timeout_seconds, job.is_late, timeout_seconds)
        try:
            return await job.outcome
        except RolloutTimeout:
            self.num_abandoned += job.task is None and worker not in self._idle
            raise
        except _Raised as raised:
            raise raised.error from None
        finally:
            alarm.cancel()
            scope.close()
            job.give_up()

    def close(self) -> None:
        """Let idle threads go, and the agents' loop."""
        while self._idle:
            self._idle.pop().jobs.put(None)
        self._loop.release()

    def _worker(self) -> _Worker:
        """An idle thread, or a new one: starting a thread waits for it to run, which costs more than a rollout."""
        try:
            return self._idle.pop()
        except IndexError:
            return _Worker(self._idle)

    def _begin(self, job: _Job, invoke: Callable[[], Any], scope: Scope) -> None:
        """Call the agent, on a thread. What has to be awaited goes on on the agents' loop, and the thread is free."""
        try:
            with entered(scope):
                result = invoke()
                if inspect.isgenerator(result):
                    result = joined(list(result))
            if inspect.isawaitable(result) or inspect.isasyncgen(result):
                job.goes_on(asyncio.run_coroutine_threadsafe(to_the_end(result, scope), self._loop.get()))
            else:
                job.end(result, None)
        except BaseException as error:  # noqa: BLE001 - handed to the waiting rollout, which tells kinds apart
            job.end(None, error)


class _Job:
    """One run of an agent: where its outcome is awaited, and the task it has become, if it is async."""

    def __init__(self, outcome: asyncio.Future[Any], inbox: Inbox) -> None:
        self.outcome = outcome
        self.task: Future[Any] | None = None
        self._is_given_up = False
        self._inbox = inbox

    def is_late(self, timeout_seconds: float) -> None:
        """Its time is up."""
        if not self.outcome.done():
            self.outcome.set_exception(RolloutTimeout(f"no answer after {timeout_seconds:g} s"))

    def goes_on(self, task: Future[Any]) -> None:
        """It has to be awaited."""
        self.task = task
        task.add_done_callback(self._ended)
        if self._is_given_up:
            task.cancel()

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._is_given_up = True
        if self.task is not None:
            self.task.cancel()

    def end(self, result: Any, error: BaseException | None) -> None:
        """From any thread."""
        self._inbox.call(self._settle, result, error)

    def _ended(self, task: Future[Any]) -> None:
        if task.cancelled():
            self.end(None, CancelledError())
        else:
            error = task.exception()
            self.end(None if error is not None else task.result(), error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.outcome.done():
            return
        if error is None:
            self.outcome.set_result(result)
        else:
            self.outcome.set_exception(_Raised(error))


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


def call_around(agent: WrappedAgent, name: Around, task: Task) -> Any:
    """What the agent's `set_up` or `tear_down` gives, which may be a coroutine. It gets the task if it takes one."""
    function = getattr(agent, name)
    if function is None:
        return None
    return function(task) if takes_argument(function) else function()


def takes_argument(function: Callable[..., Any]) -> bool:
    """Can it be given the task?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)


def describe_failure(error: BaseException) -> str:
    """The exception, and where in the agent's own code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not any(part in frame.filename for part in _NOT_THE_AGENTS)]
    place = f" (at {own[-1].filename}:{own[-1].lineno} in {own[-1].name})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


async def to_the_end(result: Any, scope: Scope) -> Any:
    """What an awaitable gives, or an async generator, in its scope."""
    with entered(scope):
        if inspect.isawaitable(result):
            result = await result
        return await _drain(result) if inspect.isasyncgen(result) else result


async def _drain(generator: Any) -> Any:
    return joined([item async for item in generator])
