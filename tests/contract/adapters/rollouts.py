"""Rollouts as the runner makes them, without a store: what was answered, what was seen."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from agentlightning import Policy, PromptSite, WrappedAgent
from agentlightning.data.trajectory import Step
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope
from agentlightning.interception.tools import Tape, ToolModes
from agentlightning.trainer.execution import AgentThreads
from agentlightning.trainer.workers.pool import Workers


class Rollout(NamedTuple):
    output: Any
    error: BaseException | None
    steps: list[Step]

    @property
    def calls(self) -> list[Step]:
        return [step for step in self.steps if step.kind == "model"]

    @property
    def tools(self) -> list[Step]:
        return [step for step in self.steps if step.kind == "tool"]

    @property
    def speakers(self) -> list[str]:
        return [step.agent for step in self.calls]


def rollouts(
    agent: WrappedAgent,
    inputs: Sequence[Any],
    policy: Policy | None = None,
    tape: Tape | None = None,
    *,
    num_workers: int = 0,
) -> list[Rollout]:
    """One rollout of each input, as many at once as the adapter allows; in worker processes, if there are any."""
    limit = asyncio.Semaphore(num_workers or agent.adapter.max_concurrency or len(inputs))
    place = Workers(agent) if num_workers else AgentThreads(agent)
    agent.prepare()

    async def one(task_input: Any) -> Rollout:
        recorder = Recorder()
        scope = Scope(agent.agent_id, policy=policy, recorder=recorder, tools=ToolModes(agent.tool_modes, tape))
        output, error = None, None
        try:
            async with limit, place.seat() as seat:
                output = await seat.run_agent(task_input, scope, 60)
        except Exception as raised:
            error = raised
        return Rollout(output, error, recorder.steps())

    async def every() -> list[Rollout]:
        return await asyncio.gather(*(one(task_input) for task_input in inputs))

    try:
        return asyncio.run(every())
    finally:
        place.close()


def rollout(agent: WrappedAgent, task_input: Any, policy: Policy | None = None, tape: Tape | None = None) -> Rollout:
    [done] = rollouts(agent, [task_input], policy, tape)
    if done.error is not None:
        raise done.error
    return done


def site_of(done: Rollout, agent: str) -> PromptSite:
    """The site of an agent's instructions, as its last call shows them."""
    call = next(step.call for step in reversed(done.calls) if step.agent == agent)
    assert call is not None
    text = next(m["content"] for m in call.messages if m["role"] in ("system", "developer"))
    return PromptSite(f"{agent}:system", agent, "system", text if isinstance(text, str) else text[0]["text"])


def answers_of(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls give: plain ones on threads (some frameworks refuse one with a loop), coroutines on one loop.

    Of a generator, the text of its pieces.
    """

    def read(result: Any) -> Any:
        return "".join(result) if inspect.isgenerator(result) else result

    async def answer() -> list[Any]:
        results = [await asyncio.to_thread(lambda call=call: read(call())) for call in calls]
        return [await result if inspect.isawaitable(result) else result for result in results]

    return asyncio.run(answer())
