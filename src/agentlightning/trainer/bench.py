"""What everything that runs an agent stands on: store, budget, runner, rollouts, our own models, the reward source.

A training run, an evaluation and an inspection differ in what they do with it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.call import Message, Reply
from agentlightning.data.record import make_record, new_id
from agentlightning.data.resource import Policy
from agentlightning.data.structure import plain_structure
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import ConfigError
from agentlightning.interception.dialects import dialects
from agentlightning.interception.tools import Tape, ToolModes
from agentlightning.models.ledger import Ledger
from agentlightning.rewards.base import Prepared, Services, bound
from agentlightning.rewards.combine import describe_reward
from agentlightning.rewards.judge import JudgeReward
from agentlightning.rewards.learned import JudgedByModel
from agentlightning.rewards.opinions import Opinions
from agentlightning.store.base import Store
from agentlightning.store.liveness import this_process
from agentlightning.store.masked import MaskedStore, Masks
from agentlightning.trainer import scoring
from agentlightning.trainer.budget import Budget, limits_from
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.config import Config
from agentlightning.trainer.config_sections import TrainerSection
from agentlightning.trainer.interrupt import Interrupt, RunInterrupted
from agentlightning.trainer.opinions import read_opinions
from agentlightning.trainer.own_models import OwnModels
from agentlightning.trainer.pace import Pace
from agentlightning.trainer.plan import NUM_PREFLIGHT, unguarded, warnings_before
from agentlightning.trainer.resolve import PlannedStage
from agentlightning.trainer.result import Cost
from agentlightning.trainer.rollouts import SHARED_STAGE, Rollouts, agent_error, model_error
from agentlightning.trainer.runner import Runner, model_failure
from agentlightning.trainer.tapes import fill_tape
from agentlightning.trainer.tasks import doubts
from agentlightning.trainer.weights import Weights, work_folder
from agentlightning.trainer.workers.pool import num_cpus

ORIGINAL = Policy()


def _most_at_once(agent: WrappedAgent, settings: TrainerSection) -> float:
    """Rollouts that can run side by side, whatever is asked for: workers each have an agent of their own."""
    if settings.isolation == "process":
        return settings.num_workers or num_cpus()
    return agent.adapter.max_concurrency or math.inf


class Bench:
    """An agent, ready to be run on tasks. Made on the trainer's loop, closed there."""

    def __init__(
        self,
        *,
        run_id: str,
        agent: WrappedAgent,
        config: Config,
        store: Store,
        callbacks: Callbacks,
        reward: Any = None,
        stages: Sequence[PlannedStage] = (),
        weights: Weights | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        settings = config.trainer
        dialects()  # a plugin's that is broken says so now, not in the agent's first call
        self.run_id = run_id
        self.agent = agent
        self.config = config
        self.masks = Masks() if config.store.mask_personal_data else None
        self.store = store = MaskedStore(store, self.masks) if self.masks else store
        self.callbacks = callbacks
        self.reward = reward
        self.stages = stages
        self.weights = weights
        self.notes: list[str] = []
        self.started_at = time.time()
        self.seconds_before = 0.0
        """What earlier parts of the run took, before it was interrupted."""
        self.lost_calls = 0
        ledger = Ledger(overrides=self._prices())
        self.budget = Budget(limits_from(config.budget.caps()), ledger, max_in_flight=settings.max_in_flight)
        specs = {role: spec.spec() for role, spec in config.models if spec is not None}
        self.models = OwnModels(
            specs,
            run_id=run_id,
            store=store,
            budget=self.budget,
            max_in_flight=settings.max_in_flight,
            engine=weights.engine if weights is not None else None,
            on_answer=lambda role, usd: callbacks.tell("on_own_call", role, usd),
            interrupt=interrupt,
        )
        self.tools = ToolModes(agent.tool_modes, Tape())
        self.interrupt = interrupt
        self.runner = self.make_runner(self.budget)
        self.rollouts = Rollouts(self.runner, store, callbacks, masks=self.masks)

    def _prices(self) -> dict[str, tuple[float, float, float]]:
        """The user's; and what our own engine answers costs no money."""
        free = {self.weights.engine.model: (0.0, 0.0, 0.0)} if self.weights is not None else {}
        return free | self.config.budget.price_overrides()

    def make_runner(self, budget: Budget) -> Runner:
        """What runs the agent, as the settings say, from this budget."""
        settings = self.config.trainer
        return Runner(
            self.agent,
            run_id=self.run_id,
            store=self.store,
            budget=budget,
            pace=Pace(
                int(min(settings.max_in_flight, _most_at_once(self.agent, settings))),
                calls_per_minute=settings.calls_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
            ),
            timeout_seconds=self.config.agent.timeout_seconds or settings.timeout_seconds,
            retries=settings.retries,
            tools=self.tools,
            weights=self.weights,
            on_seen=self.models.saw,
            interrupt=self.interrupt,
            isolation=settings.isolation,
        )

    async def ended_by(self, error: BaseException) -> str:
        """The status of a run that an error ended. An interrupted one first finishes and stores what is in flight."""
        if isinstance(error, RunInterrupted):
            await self.rollouts.settled()
            await self.models.settled()
        return "stopped" if isinstance(error, RunInterrupted | asyncio.CancelledError) else "failed"

    async def close(self) -> None:
        self.runner.close()
        await self.models.close()

    async def announce(self, kind: str, plan: list[str]) -> None:
        """Put the run on record and its plan on screen, with what to be warned about."""
        adapter = self.agent.adapter
        await self.record_run(
            "running",
            kind=kind,
            process=this_process(),
            structure=plain_structure(adapter.structure()),
            health=adapter.health(),
            config=self.config.to_dict(),
            folder=str(self.config.base_dir.resolve()),
        )
        self.callbacks.tell("on_run_start", self.run_id, plan)
        for text in [*warnings_before(self.agent), *await fill_tape(self.tools, self.store)]:
            self.note(text)

    async def try_out(self, tasks: Sequence[Task]) -> list[Trajectory]:
        """Two runs tell whether the agent works and which model it uses. ModelError when that one cannot be used."""
        self.callbacks.tell("on_stage_start", "preflight", "trying the agent on its first tasks")
        groups = await self.rollouts.groups(tasks[:NUM_PREFLIGHT], policy=ORIGINAL, split="train", stage=SHARED_STAGE)
        tried = [trajectory for group in groups for trajectory in group.trajectories]
        unreachable = [trajectory for trajectory in tried if model_failure(trajectory)]
        if len(unreachable) == len(tried):
            raise model_error(unreachable[0], len(unreachable))
        self.models.seen = self.runner.endpoint
        self._check_price()
        if all(trajectory.output is None and trajectory.status == "succeeded" for trajectory in tried):
            self.note("the agent returned nothing (None) when tried; it should return its answer.")
        return tried

    def _check_price(self) -> None:
        """A cap in money is none when the price of a call is not known; better said before the money is spent."""
        if self.budget.limits.usd is not None and self.budget.ledger.snapshot().unpriced_calls:
            model = self.models.seen.model if self.models.seen else "its model"
            raise ConfigError(
                f"budget.usd cannot be kept: the price of {model!r} is not known. Say it (USD per million tokens), "
                f"budget: {{prices: {{{model}: {{input: 0.15, output: 0.6}}}}}}, or cap calls or tokens instead."
            )

    async def choose_reward(self, tried: Sequence[Trajectory], tasks: Sequence[Task]) -> None:
        """Settle how this run is judged, say so, and judge what was tried. ConfigError when nothing can judge."""
        for text in doubts(tasks):
            self.note(text)
        self.rollouts.source = await self._reward_source(tried, tasks)
        await self.rollouts.judge_again(tasks)
        self.callbacks.tell("on_note", f"rewards come from {self.rollouts.source.description}")

    async def _reward_source(self, tried: Sequence[Trajectory], tasks: Sequence[Task]) -> scoring.RewardSource:
        asked_for = next((stage.reward for stage in self.stages if stage.reward is not None), self.reward)
        if asked_for is not None:
            return await self._chosen(asked_for)
        if any(scoring.emitted(trajectory) for trajectory in tried):
            return scoring.from_emitted()
        if any(task.expected is not None for task in tasks):
            return scoring.from_expected(tasks)
        if not self.models.can_ask("judge"):
            raise agent_error(tried) or scoring.refusal()
        return await self._chosen(JudgeReward())

    async def _chosen(self, reward: Any) -> scoring.RewardSource:
        """A reward function, given what this run can offer it."""
        has_judge = self.models.can_ask("judge")
        services = Services(
            complete=self._ask_judge if has_judge else None,
            judge=self.models.describe("judge"),
            feedback=self._feedback,
            engine=self.weights.engine if self.weights is not None else None,
            opinions=self.opinions,
            note=self.note,
            keep=self._keep,
            kept=self._kept,
            policies=self._policies,
            folder=work_folder(self.config) / self.run_id,
        )
        function: Any = bound(reward, services)
        await self._prepare(function)
        return scoring.from_function(function, describe_reward(function))

    async def _prepare(self, function: Any) -> None:
        """What a reward must learn before it judges; one that then rates what nobody has rates live rollouts, too."""
        if isinstance(function, Prepared):
            await function.prepare()
        if isinstance(function, JudgedByModel):
            for text in unguarded(self.stages):
                self.note(text)
            self.rollouts.live = await function.rated(self.rollouts.live)

    async def _feedback(self, rollout_id: str) -> list[dict[str, Any]]:
        """What people said about a rollout; of a record that was written again, the latest."""
        latest: dict[str, dict[str, Any]] = {}
        async for stored in self.store.read("feedback", {"rollout": rollout_id}):
            latest[stored.record.id] = {"rollout": rollout_id, **stored.record.body}
        return list(latest.values())

    async def opinions(self) -> Opinions:
        """What people said of this agent's rollouts, but not of those of tasks that are held out for the test."""
        found = await read_opinions(self.store, self.agent.agent_id)
        return found.without(self.held_out_tasks())

    def held_out_tasks(self) -> set[str]:
        """Tasks from which nothing may be learned."""
        return set()

    async def _keep(self, name: str, text: str, about: dict[str, Any]) -> None:
        body = {"text": text, "stage": "", "metrics": {}, name: about}
        await self.store.append([make_record("log", new_id("l"), body, run=self.run_id)])

    async def _kept(self, name: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = None
        async for stored in self.store.read("log", {"run": self.run_id}):
            found = stored.record.body.get(name, found)
        return found

    async def _policies(self) -> list[str]:
        rollouts = [stored.record.body async for stored in self.store.read("rollout", {"run": self.run_id})]
        return list(dict.fromkeys(body.get("policy_id", "") for body in rollouts))

    async def _ask_judge(self, messages: list[Message]) -> Reply:
        key = scoring.question_key("judge", messages)
        return await self.models.complete(messages, role="judge", key=key, temperature=0.0)

    def cost(self) -> Cost:
        cost = self.budget.ledger.snapshot()
        return Cost(
            calls=cost.calls,
            task_calls=cost.task_calls,
            optimizer_calls=cost.optimizer_calls,
            judge_calls=cost.judge_calls,
            input_tokens=cost.input_tokens,
            output_tokens=cost.output_tokens,
            usd=cost.usd,
            lost_calls=self.lost_calls,
            seconds=time.time() - self.started_at + self.seconds_before,
        )

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.callbacks.tell("on_note", text)

    async def record_run(self, status: str, **body: Any) -> None:
        fields = {"status": status, "agent": self.agent.agent_id, "started_at": self.started_at, **body}
        if self.seconds_before:
            fields["seconds_before"] = self.seconds_before
        await self.store.append([make_record("run", self.run_id, fields, run=self.run_id)])
