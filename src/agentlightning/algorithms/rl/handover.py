"""Reinforcement learning by another program: it samples and learns, and asks here for each rollout.

What stays here is what only this side knows: the agent, the reward, the validation tasks, and which weights were best.
"""

from __future__ import annotations

import asyncio
import math

import msgspec

from agentlightning.algorithms.base import Evaluation, Session
from agentlightning.algorithms.rl.config import RLConfig
from agentlightning.algorithms.rl.play import play_of
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory
from agentlightning.engine.base import HandedTask, Handoff, LearnsElsewhere, Order, Played
from agentlightning.errors import ConfigError

_OURS = ("credit", "cooperation", "curriculum", "redraws", "max_staleness", "normalise", "dump")
"""Settings of what this side does when it learns itself."""


class Handover:
    """One stage that is learned elsewhere."""

    def __init__(self, session: Session, config: RLConfig, engine: LearnsElsewhere) -> None:
        self._session = session
        self._config = config
        self._engine = engine
        self._tasks = {task.id: task for task in [*session.training_tasks, *session.validation_tasks]}
        self._agent = _only_agent(session)
        self._measured: dict[int, asyncio.Task[Evaluation]] = {}
        self._means: dict[int, float] = {int(num): mean for num, mean in ((session.restored or {}).items())}
        """Learning rounds → mean reward on the validation tasks."""
        _refuse_ours(config)

    async def run(self) -> Policy:
        """The best weights that were kept, in the policy this stage began with."""
        before = await self._session.evaluate(self._session.policy)
        versions = await self._engine.hand_off(self._work(), self._play, self._tell)
        if not versions:
            self._session.log("nothing was kept: it ended before its first checkpoint")
            return self._session.policy
        if not self._config.keep_best:
            return self._session.policy.with_weights(self._agent, versions[max(versions)])
        means = {num: self._means[num] for num in versions if num in self._means}
        best = max(means, key=lambda num: (means[num], -num), default=max(versions))
        if means and means[best] <= before.mean:
            self._session.log(f"no weights did better than {before.mean:.3f} on the validation tasks")
            return self._session.policy
        found = self._session.policy.with_weights(self._agent, versions[best])
        reason = f"round {best}: {means[best]:.3f} ({before.mean:.3f} before)" if means else f"round {best}, the last"
        await self._session.decide(found, "accepted", parent=self._session.policy, reason=reason, round=best)
        return found

    async def _play(self, order: Order) -> Played:
        trajectory = await (self._validated(order) if order.is_validation else self._sampled(order))
        play = play_of(trajectory, self._agent) if trajectory.reward is not None else None
        if play is None:
            return Played([], None)
        return Played(play.samples, play.reward, num_turns=len(play.turns))

    async def _sampled(self, order: Order) -> Trajectory:
        policy, config = self._live(order.num_updates), self._config
        hot = {**policy.sampling.get(self._agent, {}), "temperature": config.temperature, "top_p": 1.0}
        policy = msgspec.structs.replace(policy, sampling=policy.sampling | {self._agent: hot})
        [group] = await self._session.rollout([self._tasks[order.task]], policy=policy, draw=order.draw)
        return group.trajectories[0]

    async def _validated(self, order: Order) -> Trajectory:
        """All validation tasks are run together, when the first one is asked for."""
        policy, num = self._live(order.num_updates), order.num_updates
        if num not in self._measured:
            self._measured[num] = asyncio.create_task(self._measure(policy, num))
        await asyncio.shield(self._measured[num])
        runs = self._session.trajectories({"policy_id": policy.id, "task": order.task})
        return runs[-1]

    async def _measure(self, policy: Policy, num: int) -> Evaluation:
        evaluation = await self._session.evaluate(policy)
        self._means[num] = evaluation.mean
        self._session.log(f"round {num}: success {evaluation.mean:.3f}", success=evaluation.mean)
        await self._session.checkpoint({str(key): mean for key, mean in self._means.items()})
        return evaluation

    def _live(self, num_updates: int) -> Policy:
        return self._session.policy.with_weights(self._agent, self._engine.live(num_updates))

    def _tell(self, text: str, figures: dict[str, float]) -> None:
        self._session.log(text, iteration=None, **figures)

    def _work(self) -> Handoff:
        session, config = self._session, self._config
        num_epochs = sum(1 for _ in session.epochs())
        whole = math.ceil(num_epochs * len(session.training_tasks) / config.batch_size)
        return Handoff(
            adapter=self._agent,
            start=session.policy.weights.get(self._agent, ""),
            method=config.method,
            training=[HandedTask(task.id, str(task.input)) for task in session.training_tasks],
            validation=[HandedTask(task.id, str(task.input)) for task in session.validation_tasks],
            group_size=config.group_size,
            batch_size=config.batch_size,
            num_rounds=config.iterations or whole,
            num_minibatches=config.num_minibatches,
            learning_rate=config.policy_lr,
            temperature=config.temperature,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            warmup_steps=config.warmup_steps,
            final_rate=config.final_rate,
            clip=config.clip,
            kl=config.kl,
            entropy=config.entropy,
            max_weight=config.max_weight if config.correction == "tis" else None,
            max_tokens_per_pass=config.max_tokens_per_pass,
            evaluate_every=config.evaluate_every,
            seed=session.seed,
            folder=session.folder,
        )


def _only_agent(session: Session) -> str:
    if len(session.agents) != 1:
        raise ConfigError(
            f"engine verl trains one adapter, and {len(session.agents)} agents are to learn "
            f"({', '.join(session.agents)}). Name one in target_agents, or use engine: torch or vllm."
        )
    return session.agents[0]


def _refuse_ours(config: RLConfig) -> None:
    """What was set, and would have no effect."""
    kept = {name: getattr(config, name) for name in _OURS if name in config.model_fields_set}
    odd = [name for name, value in kept.items() if value != type(config).model_fields[name].default]
    odd += ["correction"] if config.correction == "mask" else []
    if odd:
        raise ConfigError(
            f"engine verl does not have {', '.join(odd)}: learning happens in verl, in its way. Leave out what is "
            "named here, or use engine: torch or vllm."
        )
