"""Reinforcement learning: sample groups of rollouts, see which answers led to more, make those more likely, again.

One adapter for each target agent, all on one base model, trained in the same run. What was found before (an optimised
prompt, weights from SFT) stays in place: the policy that is sampled, and handed back, is prompts and weights together.
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar

import msgspec

from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.algorithms.fitting import engine_of
from agentlightning.algorithms.rl.advantages import mean
from agentlightning.algorithms.rl.batch import Credited, Graded, credited, graded, mean_length, repetition, teaches
from agentlightning.algorithms.rl.config import RLConfig
from agentlightning.algorithms.rl.critic import critic_of, judged_by_critic
from agentlightning.algorithms.rl.gathering import Gathering
from agentlightning.algorithms.rl.handover import Handover
from agentlightning.algorithms.rl.progress import Progress
from agentlightning.algorithms.rl.stream import TaskStream
from agentlightning.algorithms.rl.watch import Seen, Watch
from agentlightning.data.resource import Policy
from agentlightning.engine.base import Learning, LearnsElsewhere
from agentlightning.errors import BudgetExhausted, ConfigError

Numbers = dict[str, float]


class RL(BaseAlgorithm[RLConfig]):
    """Policy gradients on whole rollouts; `method` chooses among GRPO and its relatives."""

    name: ClassVar[str] = "rl"
    Config: ClassVar[type[AlgorithmConfig]] = RLConfig
    needs_engine: ClassVar[bool] = True
    resumes_from_checkpoint: ClassVar[bool] = True
    hands_over: ClassVar[bool] = True

    async def train(self, session: Session) -> Policy:
        """ConfigError without a model to train; DataError when no rollout has token ids."""
        if isinstance(engine := engine_of(session), LearnsElsewhere):
            return await Handover(session, self.config, engine).run()
        if self.config.cooperation == "difference" and len(session.agents) < 2:
            raise ConfigError(
                f"cooperation: difference asks what a team reaches without one agent's learning, and here only "
                f"{session.agents[0]} learns. Name more target_agents, or use cooperation: shared."
            )
        training = Training(session, self.config)
        await training.begin()
        try:
            await training.run()
        except BudgetExhausted as spent:
            session.log(f"ended by the budget after {training.progress.num_updates} iterations: {spent}")
            return await training.progress.finish(keep_best=True)
        finally:
            await training.gathering.close()
        return await training.progress.finish(keep_best=self.config.keep_best)

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int | None:
        config = self.config
        num = config.iterations or math.ceil(num_training * max_epochs / config.batch_size)
        return num * config.batch_size * config.group_size + num_validation * (num // config.evaluate_every + 2)


class Training:
    """One stage while it runs."""

    def __init__(self, session: Session, config: RLConfig) -> None:
        self.session = session
        self.config = config
        self.engine = engine_of(session)
        critics = [critic_of(agent) for agent in session.agents] if config.method == "ppo" else []
        self.progress = Progress(session, [*session.agents, *critics])

    async def begin(self) -> None:
        """From the start, or from where an interrupted run was."""
        rest = await self.progress.begin() or {}
        is_curriculum = self.config.curriculum != "none"
        self.stream = TaskStream(self.session, is_curriculum=is_curriculum, restored=rest.get("stream"))
        num_tasks = len(self.session.training_tasks)
        seen = msgspec.convert(rest.get("seen", []), list[Seen])
        whole = math.ceil(self.stream.num_epochs * num_tasks / self.config.batch_size)
        self.num_iterations = self.config.iterations or whole
        self.watch = Watch(num_tasks, seen, min_iterations=min(3, self.num_iterations))
        self.is_over: bool = rest.get("is_over", False)
        self.gathering = Gathering(self.session, self.config, self.stream, num_iterations=self.num_iterations)
        self.gathering.advance(self.progress.policy, self.progress.num_updates)
        if rest:
            self.gathering.restore(rest["gathering"])

    async def run(self) -> None:
        """All iterations that are left."""
        while self.progress.num_updates < self.num_iterations and not self.is_over:
            began = time.perf_counter()
            found, useful, numbers = await self._gather()
            sampled = time.perf_counter()
            numbers |= {"seconds_sampling": sampled - began}
            numbers |= await self._learn(useful)
            numbers |= {"seconds_learning": time.perf_counter() - sampled}
            self._tell(found, numbers)
            self.gathering.advance(self.progress.policy, self.progress.num_updates)
            is_last = self.is_over or self.progress.num_updates == self.num_iterations
            if is_last or self.progress.num_updates % self.config.evaluate_every == 0:
                await self.progress.measure()
            await self._keep()

    async def _gather(self) -> tuple[Graded, dict[str, list[Credited]], Numbers]:
        """The plays of an iteration that teach something, by agent. Useless tasks are replaced where that was asked."""
        agents, wanted = self.session.agents, self.config.batch_size
        whole, stale = Graded([], [], [], {}), list[int]()
        useful: dict[str, list[Credited]] = {agent: [] for agent in agents}
        num_groups, num_useless = 0, 0
        for attempt in range(1 + self.config.redraws):
            fresh = await self.gathering.take(wanted, is_extra=attempt > 0)
            stale += [self.progress.num_updates - each.ticket.born for each in fresh]
            found = graded(fresh, agents, self.config)
            groups = await self._credited(found)
            for agent, group in ((agent, group) for by_agent in groups for agent, group in by_agent.items()):
                num_groups += 1
                num_useless += not teaches(group)
                useful[agent] += group if teaches(group) else []
            whole.add(found)
            wanted = sum(not any(map(teaches, by_agent.values())) for by_agent in groups)
            if not wanted:
                break
        for task_id, reward in whole.rewards_by_task.items():
            self.stream.saw(task_id, reward)
        return whole, useful, self._counts(whole, stale, num_useless / num_groups if num_groups else 1.0)

    async def _credited(self, found: Graded) -> list[dict[str, list[Credited]]]:
        if self.config.method != "ppo":
            return credited(found, self.session.agents, self.config)
        groups: list[dict[str, list[Credited]]] = [{} for _ in found.groups]
        for agent in self.session.agents:
            own = [(i, play) for i, group in enumerate(found.groups) for play in group if play.agent == agent]
            if own:
                advantages = await judged_by_critic(self.engine, [play for _, play in own], self.config)
                for (i, play), found_for in zip(own, advantages, strict=True):
                    groups[i].setdefault(agent, []).append(Credited(play, found_for))
        return groups

    async def _learn(self, useful: dict[str, list[Credited]]) -> Numbers:
        """One update for each agent that has something to learn from."""
        numbers: Numbers = {}
        learning = [agent for agent in self.session.agents if useful[agent]]
        for agent in learning:
            samples = [sample for each in useful[agent] for sample in each.samples()]
            update = await self.engine.update(samples, adapter=agent, learning=self._learning(agent, useful[agent]))
            of_agent = {**update.metrics, "num_rollouts": float(len(useful[agent]))}
            prefix = f"{agent}." if len(self.session.agents) > 1 else ""
            numbers |= {f"{prefix}{name}": value for name, value in of_agent.items()}
            for name, worst in (("ratio_max", 1.0), ("kl_to_sampler", 0.0)):
                numbers[f"worst_{name}"] = max(
                    numbers.get(f"worst_{name}", worst), abs(update.metrics.get(name, worst))
                )
        await self.progress.learned(learning)
        return numbers

    def _learning(self, agent: str, useful: list[Credited]) -> Learning:
        config = self.config
        return Learning(
            loss=config.method,
            options=config.loss_options(),
            learning_rate=config.policy_lr,
            num_minibatches=min(config.num_minibatches, len(useful)),
            max_tokens_per_pass=config.max_tokens_per_pass,
            max_grad_norm=config.max_grad_norm,
            weight_decay=config.weight_decay,
            warmup_steps=config.warmup_steps,
            total_steps=self.num_iterations * config.num_minibatches,
            final_rate=config.final_rate,
            dump=str(self.session.folder / agent / "tokens.jsonl") if config.dump else None,
        )

    def _counts(self, whole: Graded, stale: list[int], useless_share: float) -> Numbers:
        return {
            "reward": mean(whole.rewards),
            "length": mean_length(whole),
            "repetition": repetition(whole),
            "zero_variance_share": useless_share,
            "num_unjudged": float(whole.num_unjudged),
            "num_without_ids": float(whole.num_without_ids),
            "num_groups_alone": float(whole.num_alone),
            "num_groups_too_old": float(self.gathering.num_too_old),
            "staleness_mean": mean(stale),
            "staleness_max": float(max(stale, default=0)),
        }

    def _tell(self, found: Graded, numbers: Numbers) -> None:
        """The iteration in a line, then what is wrong, in words."""
        left_out = numbers["num_unjudged"] + numbers["num_without_ids"]
        aside = f", {left_out:.0f} rollouts left out" if left_out else ""
        useless = f", {numbers['zero_variance_share']:.0%} of the groups taught nothing"
        here = f"iteration {self.progress.num_updates} of {self.num_iterations}"
        text = f"{here}: reward {numbers['reward']:.3f}{useless}{aside}"
        self.session.log(text, iteration=self.progress.num_updates, **numbers)
        if not found.rewards:
            return
        seen = Seen(
            num_tasks=len(found.rewards_by_task),
            lowest=min(found.rewards),
            highest=max(found.rewards),
            reward=numbers["reward"],
            length=numbers["length"],
            repetition=numbers["repetition"],
            useless_share=numbers["zero_variance_share"],
            ratio_max=numbers.get("worst_ratio_max", 1.0),
            kl=numbers.get("worst_kl_to_sampler", 0.0),
        )
        for words in self.watch.look(seen):
            self.session.log(words)
        self._end_early()

    def _end_early(self) -> None:
        """Where going on is no use."""
        if (why := self.watch.nothing_differs()) is not None:
            self.session.log(why)
            self.is_over = True
        elif self.watch.is_lost():
            self.session.log("learning ends here: what is sampled says little about these weights any more.")
            self.is_over = True

    async def _keep(self) -> None:
        rest: dict[str, Any] = {
            "stream": self.stream.to_state(),
            "gathering": self.gathering.to_state(),
            "seen": msgspec.to_builtins(self.watch.seen[-4 * len(self.session.training_tasks) - 16 :]),
            "is_over": self.is_over,
        }
        needed = {version for ticket in self.gathering.waiting for version in ticket.weights.values()}
        await self.progress.keep(rest, needed)
