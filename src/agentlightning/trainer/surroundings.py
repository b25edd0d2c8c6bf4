"""What a rollout needs around it: a table filled, a mailbox emptied, and everything put right again when it has ended.

`set_up` runs before every attempt, `tear_down` after it however it ended, also when the agent failed or its time was
up. Both get the task if they take an argument, may be coroutine functions, and run outside the rollout: nothing they do
is recorded or steered. A failing one is no evidence about the agent, so it ends the run; what was paid for is kept.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.task import Task
from agentlightning.errors import AgentError
from agentlightning.trainer.execution import AgentFailed, Around, Seat


class Surroundings:
    """The agent's own `set_up` and `tear_down`, run where its rollout runs: on the same threads, or in its worker."""

    def __init__(self, agent: WrappedAgent, timeout_seconds: float) -> None:
        self._agent, self._timeout_seconds = agent, timeout_seconds
        self._failure: AgentError | None = None

    def around(self, task: Task, seat: Seat) -> AbstractAsyncContextManager[None]:
        """One attempt. AgentError when it cannot be set up; a tear-down that fails is kept for `check`."""
        has_any = self._agent.set_up is not None or self._agent.tear_down is not None
        return self._around(task, seat) if has_any else nullcontext()

    @asynccontextmanager
    async def _around(self, task: Task, seat: Seat) -> AsyncGenerator[None]:
        await self._run("set_up", task, seat)
        try:
            yield
        finally:
            try:
                await self._run("tear_down", task, seat)
            except AgentError as failure:
                self._failure = self._failure or failure

    def check(self) -> None:
        """Raise the first failure of a tear-down. Called once a rollout is on record."""
        if self._failure is not None:
            raise self._failure

    async def _run(self, name: Around, task: Task, seat: Seat) -> None:
        if getattr(self._agent, name) is None:
            return
        try:
            await seat.run_around(name, task, self._timeout_seconds)
        except Exception as error:
            kind = "" if isinstance(error, AgentFailed) else f"{type(error).__name__}: "
            raise AgentError(
                f"{name} failed for task {task.id}: {kind}{error}. Nothing can be learned about the agent in "
                "surroundings that are not as they should be; put it right, and resume the run."
            ) from error
