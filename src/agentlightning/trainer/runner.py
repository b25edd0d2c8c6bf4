"""Runs the agent on tasks, many at a time, and makes one trajectory of each run.

Event-driven: a rollout ends when its agent does, nobody polls. Steps are stored as they happen, the rollout when its
reward is known. The written rule for failures:

* the agent raised, or ran out of time: that is evidence about the agent (status `failed` / `timeout`);
* its last model call failed on the provider's side (no answer, 429, 5xx): tried again up to `retries` times, and if it
  still fails, the rollout is kept as `failed` but judged by nobody;
* we stopped it (budget, Ctrl-C): `stopped`, kept for the record only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from agentlightning.adapters.process import ProcessAdapter
from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.call import Usage
from agentlightning.data.processor import clean_step
from agentlightning.data.record import make_record, new_id
from agentlightning.data.resource import Policy
from agentlightning.data.task import Split, Task
from agentlightning.data.trajectory import RolloutStatus, Step, Trajectory
from agentlightning.errors import BudgetExhausted, RolloutStopped
from agentlightning.gateway.handover import LoopbackHandover
from agentlightning.interception.endpoint import LOOK_AGAIN_SECONDS, SeenEndpoint, seen_endpoint
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.recorder import Elsewhere, Entry, Recorder, plain
from agentlightning.interception.scope import Predict, Scope
from agentlightning.interception.tools import ToolModes
from agentlightning.store.base import Store
from agentlightning.store.trajectories import rollout_record
from agentlightning.trainer.budget import Budget, spent_from
from agentlightning.trainer.execution import AgentFailed, AgentThreads, RolloutTimeout, Seat, describe_failure
from agentlightning.trainer.inbox import Inbox
from agentlightning.trainer.interrupt import Interrupt
from agentlightning.trainer.journal import Journal
from agentlightning.trainer.pace import Pace
from agentlightning.trainer.surroundings import Surroundings
from agentlightning.trainer.weights import Weights
from agentlightning.trainer.workers.pool import Workers

_TRANSIENT = (408, 409, 425, 429)
_AGENTS_FAULT = (400, 413, 422)

Isolation = Literal["thread", "process"]


class RolloutPlan(msgspec.Struct, frozen=True):
    """One run of the agent, asked for."""

    task: Task
    policy: Policy
    split: Split
    stage: str
    draw: int = 0


class Runner:
    """Executes rollout plans for one agent, as many at a time as `pace` allows."""

    def __init__(
        self,
        agent: WrappedAgent,
        *,
        run_id: str,
        store: Store,
        budget: Budget,
        pace: Pace,
        timeout_seconds: float,
        retries: int,
        tools: ToolModes | None = None,
        predict: Predict | None = None,
        weights: Weights | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_seen: Callable[[SeenEndpoint], None] = lambda endpoint: None,
        interrupt: Interrupt | None = None,
        isolation: Isolation = "thread",
    ) -> None:
        """`on_seen` hears where the agent called a model with success: at first, and then about once a minute."""
        self.agent = agent
        self.run_id = run_id
        self.timeout_seconds = timeout_seconds
        self.retries = retries
        self.predict = predict
        self.endpoint: SeenEndpoint | None = None
        """Where the agent was first seen calling a model with success."""
        self._on_seen = on_seen
        self._look_again_at = 0.0
        self.num_lost = 0
        """Steps that could not be handed on when they ended, through a fault of ours."""
        self._budget = budget
        self._tools = tools
        self._weights = weights
        self._on_step = on_step
        self.pace = pace
        self.interrupt = interrupt or Interrupt()
        self.surroundings = Surroundings(agent, timeout_seconds)
        self._inbox = Inbox(asyncio.get_running_loop(), pace.patience)
        self.journal = Journal(store, self._inbox)
        has_processes = isolation == "process" and not isinstance(agent.adapter, ProcessAdapter)  # which is one itself
        self._place: AgentThreads | Workers = Workers(agent) if has_processes else AgentThreads(agent, self._inbox)
        self._handover = LoopbackHandover()
        self._steps: dict[str, dict[int, Step]] = {}
        self._budgets: dict[str, Budget] = {}
        self._usd: dict[str, float] = {}

    @property
    def num_abandoned(self) -> int:
        """Agent threads still running after their time-out."""
        return self._place.num_abandoned

    async def run(self, plan: RolloutPlan) -> Trajectory:
        """Run it, again where the rule says so.

        BudgetExhausted when it may not begin or had to be stopped, RunInterrupted when nothing more may begin.
        """
        self.interrupt.check()
        async with self.pace.slot(self.interrupt):
            attempt = 0
            while True:
                attempt += 1
                self.interrupt.check()
                spent_from(self._budget).check()
                self.journal.check()
                async with self._place.seat() as seat, self.surroundings.around(plan.task, seat):
                    trajectory = await self._attempt(plan, attempt, seat)
                if attempt > self.retries or not _deserves_retry(trajectory):
                    return trajectory
                await self.journal.keep(rollout_record(trajectory))
                await self.interrupt.sleep(min(8.0, 0.5 * 2**attempt))

    def charge(self, trajectory: Trajectory) -> None:
        """Count a rollout that was paid for before an interruption."""
        steps, budget = trajectory.model_steps, spent_from(self._budget)
        budget.replayed("task", len(steps))
        for step in steps:
            self._count(step, budget)
        usd = self._usd.pop(trajectory.id, None)
        tokens = _total_usage(steps).total_tokens
        budget.rollout_ended(len(steps), seconds=trajectory.seconds or 0.0, tokens=tokens, usd=usd or 0.0)

    def close(self) -> None:
        self.journal.flush()
        self._place.close()
        self._handover.close()

    async def _attempt(self, plan: RolloutPlan, attempt: int, seat: Seat) -> Trajectory:
        budget = spent_from(self._budget)
        recorder = self._open(plan, attempt, budget)
        scope = self._scope(plan, attempt, budget, recorder)
        started_at, t0 = time.time(), time.perf_counter()
        status, output, error = await self._outcome(seat, plan, scope)
        seconds = time.perf_counter() - t0
        self.num_lost += recorder.num_lost
        if self._weights is not None:
            self._weights.forget(recorder.rollout_id)
        steps = self._all_steps(recorder)
        usage = _total_usage(steps)
        usd = self._usd.pop(recorder.rollout_id, None)
        num_calls = sum(step.kind == "model" for step in steps)
        budget.rollout_ended(num_calls, seconds=seconds, tokens=usage.total_tokens, usd=usd or 0.0)
        trajectory = Trajectory(
            id=recorder.rollout_id,
            agent_id=self.agent.agent_id,
            task=plan.task.id,
            input=plan.task.input,
            output=plain(output),
            timestamp=started_at,
            seconds=seconds,
            run_id=self.run_id,
            stage=plan.stage,
            split=plan.split,
            policy_id=plan.policy.id,
            draw=plan.draw,
            attempt=attempt,
            status=status,
            error=error or scope.reward_error,
            expected=plan.task.expected,
            metadata=plan.task.metadata,
            steps=steps,
            rewards=[given for given in scope.rewards if given.is_metric or not scope.reward_error],
            usage=usage,
            usd=usd,
        )
        if status == "stopped":
            await self.journal.keep(rollout_record(trajectory))
            raise BudgetExhausted(error or "stopped")
        return trajectory

    def _open(self, plan: RolloutPlan, attempt: int, budget: Budget) -> Recorder:
        recorder = Recorder(new_id("r"), on_end=partial(self._inbox.call, self._keep_step))
        self._steps[recorder.rollout_id] = {}
        self._budgets[recorder.rollout_id] = budget
        if self._weights is not None:
            name = f"{plan.stage}/{plan.split}/{plan.task.id}/{plan.draw}/{attempt}"
            self._weights.begin(recorder.rollout_id, name)
        return recorder

    def _scope(self, plan: RolloutPlan, attempt: int, budget: Budget, recorder: Recorder) -> Scope:
        return Scope(
            self.agent.agent_id,
            policy=plan.policy,
            predict=None if plan.policy.is_original else self.predict,
            recorder=recorder,
            admit=partial(_admit, budget),
            tools=self._tools,
            responder=self._weights,
            handover=self._handover,
            attempt=attempt,
            mode="train" if plan.split == "train" else "val",
        )

    async def _outcome(self, seat: Seat, plan: RolloutPlan, scope: Scope) -> tuple[RolloutStatus, Any, str | None]:
        """How the run of the agent ended, what it gave, and what went wrong."""
        try:
            return "succeeded", await seat.run_agent(plan.task.input, scope, self.timeout_seconds), None
        except RolloutTimeout as late:
            return "timeout", None, str(late)
        except RolloutStopped as stopped:
            return "stopped", None, str(stopped)
        except AgentFailed as failed:
            return "failed", None, str(failed)
        except asyncio.CancelledError:
            raise
        except BaseException as raised:  # noqa: BLE001 - whatever an agent raises is data about the agent
            return "failed", None, describe_failure(raised)

    def _keep_step(self, recorder: Recorder, entry: Entry) -> None:
        """On our loop: parse, count, store. What ends after its rollout did was kept, as partial, with the rollout."""
        kept = self._steps.get(recorder.rollout_id)
        if kept is None or entry.index in kept:
            return
        step = kept[entry.index] = clean_step(recorder.step(entry))
        if step.kind == "model":
            self._count(step, self._budgets[recorder.rollout_id])
            self.pace.saw(step)
            self._note_endpoint(entry, step)
        self.journal.add(make_record("step", step.id, step, run=self.run_id, rollout=recorder.rollout_id))
        if self._on_step is not None:
            self._on_step(step)

    def _count(self, step: Step, budget: Budget) -> None:
        if step.reply is None:
            budget.ledger.add_failed("task")
            return
        model = step.reply.model or (step.call.model if step.call else "")
        usd = budget.ledger.add("task", model, step.reply.usage, is_ours=step.is_from_engine)
        if usd is not None:
            self._usd[step.rollout_id] = self._usd.get(step.rollout_id, 0.0) + usd

    def _note_endpoint(self, entry: Entry, step: Step) -> None:
        if step.error or time.monotonic() < self._look_again_at:
            return
        found = entry.endpoint if isinstance(entry, Elsewhere) else None
        if isinstance(entry, Exchange):
            found = seen_endpoint(entry)
        if found is not None:
            self._look_again_at = time.monotonic() + LOOK_AGAIN_SECONDS
            self.endpoint = self.endpoint or found
            self._on_seen(found)

    def _all_steps(self, recorder: Recorder) -> list[Step]:
        kept = self._steps[recorder.rollout_id]
        for entry in list(recorder.entries):  # those never answered, or whose stream was not read to the end
            self._keep_step(recorder, entry)
        del self._steps[recorder.rollout_id], self._budgets[recorder.rollout_id]
        return [kept[index] for index in sorted(kept)]


def model_failure(trajectory: Trajectory) -> Step | None:
    """The last model call of a failed run, if that call is what failed and not through the agent's own request.

    Nobody answered, the key was refused, the address is wrong, the answer was garbage: such a run says nothing about
    the agent. A request turned down for its content (400, 413, 422) is the agent's own failure.
    """
    if trajectory.status != "failed":
        return None
    last = next((step for step in reversed(trajectory.steps) if step.kind == "model"), None)
    if last is None or last.error is None or last.status in _AGENTS_FAULT:
        return None
    return last


def _admit(budget: Budget) -> None:
    try:
        budget.admit("task")
    except BudgetExhausted as spent:
        raise RolloutStopped(str(spent)) from spent


def _deserves_retry(trajectory: Trajectory) -> bool:
    step = model_failure(trajectory)
    return step is not None and (step.status is None or step.status in _TRANSIENT or step.status >= 500)


def _total_usage(steps: list[Step]) -> Usage:
    usages = [step.reply.usage for step in steps if step.reply is not None and step.reply.usage is not None]
    return Usage(
        input_tokens=sum(usage.input_tokens for usage in usages),
        output_tokens=sum(usage.output_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
    )
