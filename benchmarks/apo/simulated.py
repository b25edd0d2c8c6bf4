"""A session over a simulated world: budgeted, cached and recorded as the real one promises, held in memory."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec
from benchmarks.apo.families import AnyWorld, propose

from agentlightning.algorithms.base import Decision, Epoch, Evaluation
from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Reward, Step, Trajectory
from agentlightning.errors import BudgetExhausted

Optimizer = Callable[[list[Message], int], Reply]


class Meter:
    """Counts model calls and stops at the cap."""

    def __init__(self, cap: float, calls_per_rollout: float) -> None:
        self.cap, self.spent, self.calls_per_rollout = cap, 0, calls_per_rollout

    @property
    def calls_left(self) -> float:
        return self.cap - self.spent

    def spend(self, calls: int) -> None:
        if self.spent + calls > self.cap:
            raise BudgetExhausted(f"{self.spent} of {self.cap:.0f} calls are spent")
        self.spent += calls


class Decided(msgspec.Struct, frozen=True):
    """One entry of the record of decisions."""

    policy_id: str
    decision: Decision
    parent_id: str
    reason: str
    details: dict[str, Any]


class SimulatedSession:
    """Implements `algorithms.base.Session`. `jitter_seconds` makes the order in which things end random."""

    def __init__(
        self,
        world: AnyWorld,
        *,
        calls: float = float("inf"),
        epochs: int = 100,
        is_cross_fitted: bool = False,
        optimizer: Optimizer | None = None,
        jitter_seconds: float = 0.0,
        restored: Any | None = None,
    ) -> None:
        self.world, self.seed, self.is_cross_fitted, self.restored = world, world.seed, is_cross_fitted, restored
        self.agents = list(world.agents)
        self.sites = [
            PromptSite(id=f"{name}.system", agent=name, kind="system", template=world.start_of(name))
            for name in world.agents
        ]
        self.policy = Policy()
        self.budget = Meter(calls, world.calls_per_rollout)
        self.training_tasks = world.tasks("train")
        self.validation_tasks = self.training_tasks if is_cross_fitted else world.tasks("validation")
        self.rollouts: dict[tuple[str, str, int], Trajectory] = {}
        self.evaluations: dict[str, Evaluation] = {}
        """Completed ones, by policy id."""
        self.policies: dict[str, Policy] = {}
        self.completions: dict[tuple[str, int], Reply] = {}
        self.decisions: list[Decided] = []
        self.lines: list[str] = []
        self.checkpoints: list[Any] = []
        self._epochs, self._jitter = epochs, jitter_seconds
        self._optimizer = optimizer or self._simulated_optimizer

    def epochs(self) -> Iterator[Epoch]:
        for index in range(self._epochs):
            tasks = random.Random(f"{self.seed}/epoch/{index}").sample(self.training_tasks, len(self.training_tasks))
            yield Epoch(index, tasks)

    async def rollout(
        self, tasks: list[Task], *, policy: Policy | None = None, n: int = 1, draw: int = 0
    ) -> list[Group]:
        policy = policy or self.policy
        found = await asyncio.gather(
            *(self._run(policy, task, draw + number) for task in tasks for number in range(n)), return_exceptions=True
        )
        runs = [run for run in found if isinstance(run, Trajectory)]
        if len(runs) < len(found):
            raise next(error for error in found if isinstance(error, BaseException))
        return [Group(task.id, runs[i * n : (i + 1) * n]) for i, task in enumerate(tasks)]

    async def evaluate(self, policy: Policy) -> Evaluation:
        groups = await self.rollout(self.validation_tasks, policy=policy)
        means = {group.task_id: group.mean for group in groups}
        scores = {id: mean for id, mean in means.items() if mean is not None}
        self.evaluations[policy.id] = Evaluation(policy.id, scores, [id for id in means if id not in scores])
        return self.evaluations[policy.id]

    async def complete(
        self,
        messages: list[Message],
        *,
        role: Literal["optimizer", "judge"] = "optimizer",
        draw: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        key = (repr(messages), draw)
        if key not in self.completions:
            self.budget.spend(1)
            await self._wait()
            self.completions[key] = self._optimizer(messages, draw)
        return self.completions[key]

    def trajectories(self, where: Mapping[str, Any] | None = None) -> list[Trajectory]:
        wanted = (where or {}).items()
        return [t for t in self.rollouts.values() if all(getattr(t, field) == value for field, value in wanted)]

    async def decide(
        self, candidate: Policy, decision: Decision, *, parent: Policy, reason: str, **details: Any
    ) -> None:
        self.decisions.append(Decided(candidate.id, decision, parent.id, reason, details))

    async def checkpoint(self, state: Any) -> None:
        self.checkpoints.append(msgspec.json.decode(msgspec.json.encode(state)))

    def log(self, text: str, *, iteration: int | None = None, **metrics: float) -> None:
        self.lines.append(text)

    async def _run(self, policy: Policy, task: Task, draw: int) -> Trajectory:
        self.policies[policy.id] = policy
        key = (policy.id, task.id, draw)
        if key not in self.rollouts:
            self.budget.spend(self.world.calls_per_rollout)
            await self._wait()
            self.rollouts[key] = self.act(policy, task, draw)
        return self.rollouts[key]

    def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
        """One run of the agent; tests override it for agents that crash or go unjudged."""
        world, id = self.world, f"{policy.id}/{task.id}/{draw}"
        given = str(task.input)
        said = {
            site.agent: world.act(site.agent, policy.text_at(site), policy.demos.get(site.agent, []), given, draw)
            for site in self.sites
        }
        output = "; ".join(said.values())
        value = world.grade(given, output)
        return Trajectory(
            id=id,
            agent_id="simulated",
            task=task.id,
            input=task.input,
            output=output,
            expected=task.expected,
            reward=value,
            timestamp=0.0,
            policy_id=policy.id,
            draw=draw,
            steps=[self._step(policy, id, index, name, given, text) for index, (name, text) in enumerate(said.items())],
            rewards=[Reward(value, world.reason(given, output))],
        )

    def _step(self, policy: Policy, rollout_id: str, index: int, agent: str, given: str, text: str) -> Step:
        messages = [{"role": "system", "content": self.world.start_of(agent)}, {"role": "user", "content": given}]
        call = Call(agent=agent, model="simulated", messages=messages)
        return Step(
            id=f"{rollout_id}/{index}",
            rollout_id=rollout_id,
            index=index,
            kind="model",
            agent=agent,
            started_at=0.0,
            call=policy.apply(call).call,
            reply=Reply(message={"role": "assistant", "content": text}, finish_reason="stop"),
        )

    def _simulated_optimizer(self, messages: list[Message], draw: int) -> Reply:
        text = propose(self.world, messages[0]["content"], draw + 1000 * len(messages))
        return Reply(message={"role": "assistant", "content": text}, finish_reason="stop")

    async def _wait(self) -> None:
        if self._jitter:
            await asyncio.sleep(random.random() * self._jitter)
