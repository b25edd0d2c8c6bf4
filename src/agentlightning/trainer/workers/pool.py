"""The workers of a run: one rollout each at a time, started when first needed, replaced when one was ended."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.task import Task
from agentlightning.errors import AgentError, RolloutStopped
from agentlightning.interception.scope import Scope
from agentlightning.trainer.execution import AgentFailed, Around, RolloutTimeout, Seat
from agentlightning.trainer.workers import messages as m
from agentlightning.trainer.workers.origin import origin_of
from agentlightning.trainer.workers.process import Job, WorkerProcess

_LOAD_SECONDS = 300.0
"""For the agent's imports, on a machine that has other things to do, too."""
_GRACE_SECONDS = 1.0
"""For a worker whose time is up to tell what it was at."""


class Workers:
    """Where agents run with `isolation: process`. Made in the run's process; AgentError when workers cannot find the
    agent. It holds as many processes as there were ever rollouts at the same time."""

    num_abandoned = 0
    """A rollout that hangs ends with its process."""

    def __init__(self, agent: WrappedAgent) -> None:
        self._agent = agent
        self._origin = origin_of(agent)
        self._idle: deque[WorkerProcess] = deque()
        self._all: set[WorkerProcess] = set()

    @asynccontextmanager
    async def seat(self) -> AsyncGenerator[Seat]:
        """A worker for one rollout, loaded: what that takes is not the rollout's time."""
        seat = _WorkerSeat(self, await self.fit())
        try:
            yield seat
        finally:
            self._idle.append(seat.worker)

    def close(self) -> None:
        """End them all."""
        while self._all:
            self._all.pop().end()

    async def fit(self) -> WorkerProcess:
        """One that can run a rollout, started if there is none."""
        while self._idle:
            worker = self._idle.pop()
            if worker.is_fit:
                return worker
            self._all.discard(worker)
        worker = WorkerProcess()
        self._all.add(worker)
        try:
            loading = asyncio.to_thread(worker.load, self._agent, self._origin)
            await asyncio.wait_for(loading, _LOAD_SECONDS)
        except TimeoutError:
            worker.end()
            raise AgentError(
                f"a worker process was still loading agent {self._agent.agent_id!r} after {_LOAD_SECONDS:g} seconds. "
                "Does its file wait for something (input, a network, a lock) when it is imported?"
            ) from None
        except BaseException:
            worker.end()
            raise
        return worker


class _WorkerSeat:
    """A worker, and another one when that was ended: tearing down is done then, too."""

    def __init__(self, workers: Workers, worker: WorkerProcess) -> None:
        self._workers = workers
        self.worker = worker

    async def run_agent(self, task_input: Any, scope: Scope, timeout_seconds: float) -> Any:
        return await self._run(_begin(task_input, scope), scope, timeout_seconds)

    async def run_around(self, name: Around, task: Task, timeout_seconds: float) -> None:
        if not self.worker.is_fit:
            self.worker = await self._workers.fit()
        await self._run(m.BeginAround(name, task), Scope(name), timeout_seconds)

    async def _run(self, begin: m.Begin | m.BeginAround, scope: Scope, timeout_seconds: float) -> Any:
        loop = asyncio.get_running_loop()
        job = Job(begin, scope, loop.create_future(), loop)
        self.worker.begin(job)
        try:
            ended = await asyncio.wait_for(asyncio.shield(job.outcome), timeout_seconds)
        except TimeoutError:
            scope.close()
            self.worker.give_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(job.outcome, _GRACE_SECONDS)
            await asyncio.to_thread(self.worker.end)
            raise RolloutTimeout(f"no answer after {timeout_seconds:g} s") from None
        except BaseException:
            scope.close()
            await asyncio.shield(asyncio.to_thread(self.worker.end))
            raise
        scope.close()
        return _result(ended, scope)


def num_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(task_input: Any, scope: Scope) -> m.Begin:
    assert scope.recorder is not None
    return m.Begin(
        scope.recorder.rollout_id,
        task_input,
        scope.policy,
        scope.attempt,
        scope.mode,
        has_predict=scope.predict is not None,
        has_responder=scope.responder is not None,
    )


def _result(ended: m.Ended, scope: Scope) -> Any:
    if scope.recorder is not None:
        scope.recorder.num_lost += ended.num_lost
    if ended.status == "stopped":
        raise RolloutStopped(ended.error or "stopped")
    if ended.status == "failed":
        raise AgentFailed(ended.error or "failed")
    return ended.output
