"""Direct preference optimisation (arXiv 2305.18290) from pairs of a better and a worse answer of one agent.

The pairs come from rollouts of one task whose rewards differ, and from people's choices between two rollouts. The two
conversations are compared where they first part, so both answers were given in the same situation. The reference is the
adapter as it was when the stage began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import msgspec
from pydantic import Field

from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.algorithms.fitting import FittingConfig, Item, engine_of, fit
from agentlightning.algorithms.sft import heated
from agentlightning.data.preferences import Preference, matched, preferences
from agentlightning.data.resource import Policy
from agentlightning.data.sample import Sample
from agentlightning.data.selection import judged
from agentlightning.data.trajectory import Trajectory
from agentlightning.engine.base import Engine, Pair
from agentlightning.errors import DataError


class DPOConfig(FittingConfig):
    """Settings of `dpo`."""

    learning_rate: float = Field(default=5e-5, gt=0)
    """At its highest; it falls linearly."""
    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the reference."""
    rollouts_per_task: int = Field(default=4, ge=2)
    """How often each training task is run for answers to compare."""
    min_margin: float = Field(default=0.1, ge=0)
    """Least difference in reward between the two of a pair."""
    max_pairs_per_task: int = Field(default=2, ge=1)
    """So that tasks with many different rollouts do not crowd out the others."""
    temperature: float | None = Field(default=1.0, ge=0)
    """Of the runs that are compared, so that they differ. None: the agent's own."""
    source: Literal["rewards", "people", "both"] = "both"
    """Whose preferences: rollouts with different rewards, people's choices between rollouts in the store, or both."""
    use_live: bool = True
    """Compare rollouts of split `live`, too."""


class PreferenceLoss:
    """-log sigmoid of beta times how much more the policy prefers the better answer than the reference does."""

    name = "dpo"

    def __init__(self, beta: float) -> None:
        self.options: dict[str, Any] = {"beta": beta}

    async def held_back(self, engine: Engine, items: Sequence[Item], weights: str) -> float:
        """Share of the held-back pairs whose worse answer is still the likelier one."""
        pairs = [item for item in items if isinstance(item, Pair)]
        better = await engine.score([pair.better for pair in pairs], weights=weights)
        worse = await engine.score([pair.worse for pair in pairs], weights=weights)
        return sum(sum(b) <= sum(w) for b, w in zip(better, worse, strict=True)) / max(1, len(pairs))


class DPO(BaseAlgorithm[DPOConfig]):
    """Learns what the better answer has over the worse one."""

    name: ClassVar[str] = "dpo"
    Config: ClassVar[type[AlgorithmConfig]] = DPOConfig
    needs_engine: ClassVar[bool] = True
    resumes_from_checkpoint: ClassVar[bool] = True

    async def train(self, session: Session) -> Policy:
        """Raises DataError when no two rollouts of a task differ in reward."""
        engine = engine_of(session)
        runs = await self._runs(session) if self.config.source != "people" else []
        liked = await session.choices() if self.config.source != "rewards" else []
        policy = session.policy
        for agent in session.agents:
            by_people = [(better.id, p) for better, worse in liked for p in preferences(better, worse, [agent])]
            chosen = [*by_people, *self._pairs(runs, agent)]
            if not chosen:
                raise DataError(self._nothing_to_learn(runs, len(liked), agent))
            items: list[Item] = [await encoded(engine, name, preference) for name, preference in chosen]
            session.log(
                f"{agent}: learns from {len(items)} pairs, {len(by_people)} of them chosen by people",
                num_pairs=len(items),
            )
            loss = PreferenceLoss(self.config.beta)
            policy = await fit(session, agent, items, start=policy, loss=loss, config=self.config)
        return policy

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int | None:
        compared = 0 if self.config.source == "people" else num_training * self.config.rollouts_per_task
        return compared + num_validation * self.config.epochs

    async def _runs(self, session: Session) -> list[Trajectory]:
        hot = session.policy
        if self.config.temperature is not None:
            hot = heated(hot, session.agents, self.config.temperature)
        groups = await session.rollout(session.training_tasks, policy=hot, n=self.config.rollouts_per_task)
        runs = [trajectory for group in groups for trajectory in group.trajectories]
        live = session.trajectories({"split": "live"}) if self.config.use_live else []
        return judged([*runs, *live]).kept

    def _nothing_to_learn(self, runs: Sequence[Trajectory], num_choices: int, agent: str) -> str:
        if self.config.source == "people":
            return (
                f"people made {num_choices} choices between rollouts of this agent, and in none the two part at an "
                f"answer of {agent}. Let people choose (`agentlightning rate RUN --pairs`), or set source: both."
            )
        return _nothing_to_compare(runs, agent, self.config.min_margin)

    def _pairs(self, runs: Sequence[Trajectory], agent: str) -> list[tuple[str, Preference]]:
        tasks: defaultdict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in runs:
            tasks[trajectory.task].append(trajectory)
        found: list[tuple[str, Preference]] = []
        for rollouts in tasks.values():
            couples = [*matched(rollouts, self.config.min_margin)]
            of_task = [(better.id, p) for better, worse in couples for p in preferences(better, worse, [agent])]
            found += of_task[: self.config.max_pairs_per_task]
        return found


async def encoded(engine: Engine, rollout_id: str, preference: Preference) -> Pair:
    """The pair as samples in which only the two answers are learned."""

    async def side(answer: dict[str, Any]) -> Sample:
        messages, last = [*preference.messages, answer], len(preference.messages)
        sample = await engine.encode(messages, preference.tools, agent=preference.agent, learned=[last])
        return msgspec.structs.replace(sample, rollout_id=rollout_id)

    return Pair(await side(preference.better), await side(preference.worse))


def _nothing_to_compare(runs: Sequence[Trajectory], agent: str, margin: float) -> str:
    return (
        f"no two of the {len(runs)} judged rollouts differ by {margin:g} in reward and part at an answer of {agent}, "
        "so there is no preference to learn. Raise rollouts_per_task or temperature, or use a reward with more grades."
    )
