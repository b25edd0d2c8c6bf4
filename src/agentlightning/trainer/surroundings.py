"""What a rollout needs around it: a table filled, a mailbox emptied, and everything put right again when it has ended.

`set_up` runs before every attempt, `tear_down` after it however it ended, also when the agent failed or its time was
up. Both get the task if they take an argument, may be coroutine functions, and run outside the rollout: nothing they do
is recorded or steered. A failing one is no evidence about the agent, so it ends the run; what was paid for is kept.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agentlightning.data.task import Task
from agentlightning.errors import AgentError
from agentlightning.interception.scope import Scope
from agentlightning.trainer.execution import AgentThreads


class Surroundings:
    """The agent's own `set_up` and `tear_down`, run where its agents run: on their threads, on their loop."""

    def __init__(
        self,
        set_up: Callable[..., Any] | None,
        tear_down: Callable[..., Any] | None,
        threads: AgentThreads,
        timeout_seconds: float,
    ) -> None:
        self._set_up, self._tear_down = set_up, tear_down
        self._threads, self._timeout_seconds = threads, timeout_seconds
        self._failure: AgentError | None = None

    @asynccontextmanager
    async def around(self, task: Task) -> AsyncGenerator[None]:
        """One attempt. AgentError when it cannot be set up; a tear-down that fails is kept for `check`."""
        await self._run("set_up", self._set_up, task)
        try:
            yield
        finally:
            try:
                await self._run("tear_down", self._tear_down, task)
            except AgentError as failure:
                self._failure = self._failure or failure

    def check(self) -> None:
        """Raise the first failure of a tear-down. Called once a rollout is on record."""
        if self._failure is not None:
            raise self._failure

    async def _run(self, name: str, function: Callable[..., Any] | None, task: Task) -> None:
        if function is None:
            return
        args = (task,) if takes_argument(function) else ()
        try:
            await self._threads.run(lambda: function(*args), Scope(name), self._timeout_seconds)
        except Exception as error:
            raise AgentError(
                f"{name} failed for task {task.id}: {type(error).__name__}: {error}. Nothing can be learned about the "
                "agent in surroundings that are not as they should be; put it right, and resume the run."
            ) from error


def takes_argument(function: Callable[..., Any]) -> bool:
    """Can it be given the task?"""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a builtin without a signature
        return False
    return any(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
