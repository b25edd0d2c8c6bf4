"""Which reward does this run use? One source for the whole run, in a fixed order, and the run says which.

1. the stage's `reward_function`  2. `reward=`  3. what the agent itself emits  4. `expected` on the task
5. an LLM judge with a rubric  6. a refusal that explains these choices.

A run that says nothing about the agent (its model could not be reached) is judged by nobody; one in which the agent
itself failed gets the lowest reward, with the error as the reason, unless the agent had emitted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from agentlightning.data.processor import process
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import ConfigError, DataError
from agentlightning.rewards.base import RewardFunction, evaluate_reward
from agentlightning.rewards.matching import expected_match
from agentlightning.trainer.runner import model_failure

LOWEST_REWARD = 0.0
NO_REWARD = "no reward:"
"""How the error of a rollout begins whose judge failed."""

Score = Callable[[Task, Trajectory], Awaitable[Reward | None]]


class RewardSource(msgspec.Struct, frozen=True):
    """How this run's rollouts are judged, and the words for it."""

    description: str
    score: Score


def from_function(function: RewardFunction, description: str) -> RewardSource:
    """Judged by a reward function of the user's or of ours."""

    async def score(task: Task, trajectory: Trajectory) -> Reward | None:
        return await evaluate_reward(function, task, trajectory)

    return RewardSource(description, score)


def from_emitted() -> RewardSource:
    """Judged by what the agent says of itself with `emit_reward`."""

    async def score(task: Task, trajectory: Trajectory) -> Reward | None:
        return emitted(trajectory)

    return RewardSource("the agent's own emit_reward", score)


def from_expected(tasks: Sequence[Task]) -> RewardSource:
    """Judged by comparing the output with the task's expected answer."""
    without = sum(task.expected is None for task in tasks)

    async def score(task: Task, trajectory: Trajectory) -> Reward | None:
        if task.expected is None:
            return None
        reward = await evaluate_reward(expected_match, task, trajectory)
        return None if reward is None else msgspec.structs.replace(reward, source="expected")

    missing = f" ({without} of {len(tasks)} tasks have none and are judged by nobody)" if without else ""
    return RewardSource(f"the expected answers of the tasks{missing}", score)


def question_key(role: str, *asked: Any) -> str:
    """The name of a question's answer on record."""
    digest = hashlib.sha256(msgspec.json.encode([role, *asked], order="deterministic"))
    return f"{role}-{digest.hexdigest()[:24]}"


def emitted(trajectory: Trajectory) -> Reward | None:
    """The last reward the agent emitted for this run as a whole."""
    given = [r for r in trajectory.rewards if r.source == "emitted" and not r.is_metric and r.step is None]
    return given[-1] if given else None


def refusal() -> ConfigError:
    """Nothing can judge these rollouts."""
    return ConfigError(
        "nothing says how good an answer is, so nothing can be learned. Choose one: give tasks an 'expected' answer; "
        "pass reward=my_function to the Trainer (it takes (task, trajectory) and returns a number, or a number and a "
        "reason); call agentlightning.emit_reward(0.7, 'why') inside the agent; or let a model judge: "
        "models={'judge': 'gpt-4o-mini'}."
    )


async def scored(source: RewardSource, task: Task, trajectory: Trajectory) -> Trajectory:
    """The trajectory with its reward and its features. A reward function that fails is that rollout's error."""
    reward: Reward | None = None
    error = trajectory.error
    if trajectory.status in ("failed", "timeout") and emitted(trajectory) is None:
        if model_failure(trajectory) is None:
            reason = (
                f"the agent failed: {error}" if trajectory.status == "failed" else f"the agent ran out of time: {error}"
            )
            reward = Reward(value=LOWEST_REWARD, reason=reason)
    else:
        try:
            reward = await source.score(task, trajectory)
        except DataError as wrong:
            error = f"{NO_REWARD} {wrong}"
    rewards = trajectory.rewards
    if reward is not None and reward not in rewards:
        rewards = [*rewards, reward]
    value = None if reward is None or reward.is_metric else reward.value
    judged = msgspec.structs.replace(trajectory, reward=value, rewards=rewards, error=error)
    return process(judged, has_clean_steps=True)  # the runner cleaned each as it ended
