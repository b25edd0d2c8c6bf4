"""A play: what one agent said in one rollout, and what that earned. Statistics count plays, never training rows.

How many rows a rollout becomes depends on chat templates and context resets; an average over rows would hear long
rollouts louder than short ones.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict

import msgspec

from agentlightning.data.forest import merge
from agentlightning.data.sample import Sample
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.errors import DataError


class Play(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's part of one judged rollout."""

    agent: str
    rollout_id: str
    reward: float
    """The team's, as the rollout was judged."""
    samples: list[Sample]
    turns: list[int]
    """Steps of the rollout in which this agent answered, in order."""
    num_later: dict[int, int] = {}
    """Of each turn: the rollout's model calls after it."""
    states: dict[int, str] = {}
    """Of each turn: a digest of what the agent had just been told."""
    step_rewards: dict[int, float] = {}
    """What was emitted for single answers of this agent (`emit_reward(…, step=True)`), by turn."""
    own_reward: float | None = None
    """A reward or metric that bears the agent's name; None when there is none."""

    @property
    def num_sampled(self) -> int:
        """Tokens the policy sampled."""
        return sum(sample.num_sampled for sample in self.samples)


def play_of(trajectory: Trajectory, agent: str) -> Play | None:
    """The agent's play; None where it said nothing. The rollout must have a reward. DataError as `merge` raises it."""
    assert trajectory.reward is not None
    samples = merge(trajectory, [agent]).samples
    if not samples:
        return None
    for sample in samples:
        _check_logprobs(sample)
    turns = sorted(turn.step for sample in samples for turn in sample.turns)
    order = [step.index for step in trajectory.model_steps]
    steps = {step.index: step for step in trajectory.model_steps}
    return Play(
        agent=agent,
        rollout_id=trajectory.id,
        reward=trajectory.reward,
        samples=samples,
        turns=turns,
        num_later={turn: sum(other > turn for other in order) for turn in turns},
        states={turn: _state(steps[turn]) for turn in turns},
        step_rewards=_step_rewards(trajectory, turns),
        own_reward=next((r.value for r in reversed(trajectory.rewards) if r.name == agent and r.step is None), None),
    )


def _step_rewards(trajectory: Trajectory, turns: list[int]) -> dict[int, float]:
    found: dict[int, float] = defaultdict(float)
    for reward in trajectory.rewards:
        if reward.step in turns and not reward.is_metric:
            found[reward.step] += reward.value
    return dict(found)


def _state(step: Step) -> str:
    """What the agent was told since it last spoke: two turns with the same digest answer the same observation."""
    messages = step.call.messages if step.call else []
    spoke = [i for i, message in enumerate(messages) if message.get("role") == "assistant"]
    told = [[m.get("role"), m.get("content")] for m in messages[spoke[-1] + 1 if spoke else 0 :]]
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]


def _check_logprobs(sample: Sample) -> None:
    if sample.logprobs is None:
        raise DataError(
            f"the answers of {sample.agent} in rollout {sample.rollout_id} have token ids but no logprobs, so nobody "
            "can tell how far the weights have moved since. The server that sampled them must return logprobs."
        )
