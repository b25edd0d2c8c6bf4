"""What a rollout took: time, money, tokens, words. 1 up to a target, then falling in a straight line to 0 at a limit.

Below the target nothing more is gained, so an agent is not paid for answering nothing quickly. They belong beside a
reward for being right, in a weighted sum.
"""

from __future__ import annotations

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import ConfigError
from agentlightning.rewards.base import reward
from agentlightning.rewards.density import num_units


@reward
def latency(_task: Task, trajectory: Trajectory, *, target_seconds: float, limit_seconds: float) -> Reward | None:
    """By the rollout's wall-clock time, in seconds. None where it was not measured."""
    return _within(trajectory.seconds, target_seconds, limit_seconds, "s", trajectory)


@reward
def cost(_task: Task, trajectory: Trajectory, *, target_usd: float, limit_usd: float) -> Reward | None:
    """By the price of the agent's model calls in US dollars. None where a model's price is not known."""
    return _within(trajectory.usd, target_usd, limit_usd, "USD", trajectory)


@reward
def token_cost(_task: Task, trajectory: Trajectory, *, target_tokens: float, limit_tokens: float) -> Reward | None:
    """By the tokens of the agent's model calls, in and out. None where no provider counted them."""
    return _within(trajectory.usage.total_tokens or None, target_tokens, limit_tokens, "tokens", trajectory)


@reward
def brevity(_task: Task, trajectory: Trajectory, *, target_words: float, limit_words: float) -> Reward | None:
    """By the length of the output in words (Chinese, Japanese and Korean: characters). No answer at all is 0."""
    words = num_units("" if trajectory.output is None else str(trajectory.output))
    if not words and trajectory.status != "stopped":
        return Reward(0.0, "there is no answer")
    return _within(words, target_words, limit_words, "words", trajectory)


def _within(used: float | None, target: float, limit: float, unit: str, trajectory: Trajectory) -> Reward | None:
    if not 0 <= target < limit:
        raise ConfigError(
            f"the target ({target:g} {unit}) must be below the limit ({limit:g} {unit}), and not negative."
        )
    if used is None or trajectory.status == "stopped":
        return None
    value = min(1.0, max(0.0, (limit - used) / (limit - target)))
    return Reward(value, f"it took {used:.4g} {unit} (1 up to {target:g}, 0 from {limit:g})")
