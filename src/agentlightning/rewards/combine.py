"""One reward out of several: their weighted sum.

A part that cannot judge a rollout leaves the sum without a value (it is not a zero); a part that fails fails the sum.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import msgspec

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import ConfigError
from agentlightning.rewards.base import Prepared, RewardFunction, Services, bound, evaluate_reward, reward_mark


class Part(msgspec.Struct, frozen=True):
    """One reward of the sum, and what it counts. A negative weight makes it a penalty."""

    function: Any
    weight: float
    name: str


class WeightedSum:
    """A reward function: the sum of weight × reward over its parts, with each part's share in the reason."""

    def __init__(self, parts: Sequence[Part], name: str = "weighted_sum") -> None:
        if not parts or any(not math.isfinite(part.weight) for part in parts):
            raise ConfigError("a weighted sum is made of at least one reward, each with a finite weight.")
        self.parts = list(parts)
        self.name = name

    @property
    def description(self) -> str:
        return " + ".join(f"{part.weight:.3g} × {part.name}" for part in self.parts)

    def bind(self, services: Services) -> WeightedSum:
        parts = [msgspec.structs.replace(part, function=bound(part.function, services)) for part in self.parts]
        return WeightedSum(parts, self.name)

    async def prepare(self) -> None:
        for part in self.parts:
            if isinstance(part.function, Prepared):
                await part.function.prepare()

    async def __call__(self, task: Task, trajectory: Trajectory) -> Reward | None:
        judged = await asyncio.gather(*(evaluate_reward(part.function, task, trajectory) for part in self.parts))
        given = [(part, reward) for part, reward in zip(self.parts, judged, strict=True) if reward is not None]
        if len(given) < len(self.parts):
            return None
        value = sum(part.weight * reward.value for part, reward in given)
        said = [
            f"{part.name} {reward.value:.3g} (weight {part.weight:.3g}){_because(reward)}" for part, reward in given
        ]
        return Reward(value, "; ".join(said), name=self.name)


def _because(reward: Reward) -> str:
    return f": {reward.reason}" if reward.reason else ""


def equal_shares(names: Sequence[str], weights: Sequence[float | None]) -> list[float]:
    """The weights as given; without any, each of n counts 1/n. ConfigError when only some are given."""
    given = [weight for weight in weights if weight is not None]
    if not given:
        return [1 / len(weights)] * len(weights)
    if len(given) < len(weights):
        lacking = next(name for name, weight in zip(names, weights, strict=True) if weight is None)
        raise ConfigError(f"reward: {lacking!r} has no weight and others have one. Give every part a weight, or none.")
    return given


def describe_reward(function: RewardFunction | Any) -> str:
    """What judges, in words for the run's notes, with what is to be known of it on this machine."""
    said = getattr(function, "description", None)
    words = said if isinstance(said, str) else f"the reward function {reward_mark(function).name}"
    judges = [part.function for part in function.parts] if isinstance(function, WeightedSum) else [function]
    healths = dict.fromkeys(mark.health() for judge in judges if (mark := reward_mark(judge)).health)
    return "; ".join([words, *healths])
