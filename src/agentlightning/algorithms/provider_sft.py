"""Supervised fine-tuning at the model's provider, for models whose weights nobody else holds.

The agent goes on calling its provider; only the model's name changes, so the policy is that name and nothing else. The
examples are the agent's own best rollouts or a file, as in `sft`. The trained model is kept only if the agent succeeds
more often with it on the validation tasks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from pydantic import Field

from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session, TuningSettings
from agentlightning.algorithms.sft import heated, read_demonstrations
from agentlightning.data.conversations import conversations, is_answer
from agentlightning.data.features import SUCCESS_REWARD
from agentlightning.data.resource import Policy
from agentlightning.data.selection import best, judged
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError

MIN_EXAMPLES = 10
"""Providers refuse fewer."""


class ProviderSFTConfig(AlgorithmConfig):
    """Settings of `provider_sft`."""

    model: str | dict[str, Any] | None = None
    """What is trained, at the agent's own provider: a name (`gpt-4.1-nano-2025-04-14`), or a mapping as in `models`
    (`model`, `base_url`, `api_key_env`, `api_version`). The model the agent calls when not given."""
    deployment: str | None = None
    """Azure: the deployment through which the trained model is called."""
    data: Path | None = None
    """Demonstrations: a JSONL file of `{"messages": […], "tools": […]}`. The agent's own best rollouts when not
    given."""
    min_reward: float = SUCCESS_REWARD
    """A rollout with less is not learned from."""
    rollouts_per_task: int = Field(default=4, ge=1)
    """How often each training task is run to choose from."""
    best_of: int = Field(default=1, ge=1)
    """Most rollouts of one task that are learned from."""
    temperature: float | None = Field(default=1.0, ge=0)
    """Of those runs. None: the agent's own."""
    held_back: float = Field(default=0.1, ge=0, lt=1)
    """Share of the examples that the provider measures its loss on instead of learning them."""
    epochs: int | None = Field(default=None, ge=1)
    """Passes over the examples. The provider's choice when not given; so are the next two."""
    batch_size: int | None = Field(default=None, ge=1)
    """Examples in one step."""
    learning_rate_multiplier: float | None = Field(default=None, gt=0)
    """Of the provider's own learning rate."""
    suffix: str | None = Field(default=None, max_length=64)
    """Part of the trained model's name."""
    usd_per_million_tokens: float | None = Field(default=None, ge=0)
    """Price of training, where the built-in table does not know it."""
    poll_seconds: float = Field(default=10.0, gt=0)
    """How often the job is asked for at first; rarer later."""


class ProviderSFT(BaseAlgorithm[ProviderSFTConfig]):
    """Has the provider train the agent's model on what went well."""

    name: ClassVar[str] = "provider_sft"
    Config: ClassVar[type[AlgorithmConfig]] = ProviderSFTConfig

    async def train(self, session: Session) -> Policy:
        """Raises DataError when there is too little to learn from, before anything is paid."""
        runs = [] if self.config.data else await self._own_best(session)
        policy = session.policy
        for agent in session.agents:
            rows = demonstrated(self.config.data) if self.config.data else examples_of(runs, agent)
            policy = await self._tuned(session, agent, rows, policy)
        return policy

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int | None:
        return (0 if self.config.data else num_training * self.config.rollouts_per_task) + num_validation

    def plan_note(self) -> str:
        price = self.config.usd_per_million_tokens
        told = f"{price:g} USD per million trained tokens" if price is not None else "the provider's price for training"
        return f"a fine-tuning job at the model's provider for each agent, at {told}; checked against budget.usd first"

    async def _tuned(self, session: Session, agent: str, rows: list[dict[str, Any]], start: Policy) -> Policy:
        learned, kept = _split(rows, self.config.held_back, session.seed)
        if len(learned) < MIN_EXAMPLES:
            raise DataError(
                f"{len(learned)} examples for {agent} are too few: providers take {MIN_EXAMPLES} and more. Lower "
                "min_reward, raise rollouts_per_task or best_of, set held_back: 0, or give demonstrations (data: …)."
            )
        before = await session.evaluate(start)
        name = await session.fine_tune(learned, kept, self._settings(session))
        policy = msgspec.structs.replace(start, models={**start.models, agent: name})
        after = await session.evaluate(policy)
        is_better = after.mean > before.mean
        reason = f"{name}: success {after.mean:.3f} ({before.mean:.3f} before)"
        session.log(f"{agent}: {reason}", success=after.mean, num_samples=len(learned))
        await session.decide(policy, "accepted" if is_better else "rejected", parent=start, reason=reason)
        return policy if is_better else start

    def _settings(self, session: Session) -> TuningSettings:
        shared = self.config.model_dump(include=set(TuningSettings.__struct_fields__))
        return TuningSettings(**shared, seed=session.seed)

    async def _own_best(self, session: Session) -> list[Trajectory]:
        hot = session.policy
        if self.config.temperature is not None:
            hot = heated(hot, session.agents, self.config.temperature)
        groups = await session.rollout(session.training_tasks, policy=hot, n=self.config.rollouts_per_task)
        runs = [trajectory for group in groups for trajectory in group.trajectories]
        selection = best(judged(runs), min_reward=self.config.min_reward, best_of=self.config.best_of)
        session.log(f"{len(selection.kept)} of {len(runs)} rollouts are good enough to learn from")
        if not selection.kept:
            raise DataError(f"no rollout reached a reward of {self.config.min_reward:g}: there is nothing to imitate.")
        return selection.kept


def demonstrated(path: Path) -> list[dict[str, Any]]:
    """The demonstrations of a file as they are: answers with `weight: 0` are not learned."""
    return [
        {"messages": messages, **({"tools": tools} if tools else {})}
        for _, messages, tools in read_demonstrations(path)
    ]


def examples_of(runs: Sequence[Trajectory], agent: str) -> list[dict[str, Any]]:
    """Conversations in the provider's form: only what the model said in these runs has weight."""
    found = [c for run in runs for c in conversations(run, [agent]) if is_answer(c.messages[-1])]
    return [_row(c.messages, c.tools, c.answered) for c in found]


def _row(messages: Sequence[Mapping[str, Any]], tools: list[dict[str, Any]], learned: Sequence[int]) -> dict[str, Any]:
    weighed = [
        {**message, "weight": int(place in learned)} if message["role"] == "assistant" else dict(message)
        for place, message in enumerate(messages)
    ]
    return {"messages": weighed, **({"tools": tools} if tools else {})}


def _split(rows: list[dict[str, Any]], share: float, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Without repeats: a provider would bill them."""
    unique = list({json.dumps(row, sort_keys=True): row for row in rows}.values())
    order = random.Random(f"{seed}/held back").sample(range(len(unique)), len(unique))
    kept = set(order[: int(share * len(unique))])
    return [r for i, r in enumerate(unique) if i not in kept], [r for i, r in enumerate(unique) if i in kept]
