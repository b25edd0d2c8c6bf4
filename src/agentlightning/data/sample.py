"""What an engine trains on: the tokens of one context, which of them the policy sampled, and how good they were."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Turn(msgspec.Struct, frozen=True):
    """One sampled answer within a sample's completion: tokens `start` to `end`, from step `step` of the rollout."""

    step: int
    start: int
    end: int


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row: a prompt, then a completion in which sampled tokens and observations take turns.

    `mask`, `logprobs` and `advantages` are as long as `completion_ids`. Observations have mask 0 and logprob 0.0.
    """

    prompt_ids: list[int]
    """Everything before the first sampled token; never trained on."""
    completion_ids: list[int]
    mask: list[int]
    """1: sampled by the policy, trained here and nowhere else. 0: an observation."""
    logprobs: list[float] | None = None
    """Of the sampled tokens under the policy that sampled them; None when any of them was not recorded."""
    advantages: list[float] | None = None
    """The slot that an algorithm fills; None until it did."""
    agent: str
    rollout_id: str
    segment_id: int
    """Counts the samples of one rollout, from 0."""
    policy_id: str = ""
    turns: list[Turn] = []

    @property
    def num_tokens(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def num_sampled(self) -> int:
        return sum(self.mask)

    def with_advantage(self, value: float) -> Sample:
        """The sample with one advantage for all of its sampled tokens."""
        return msgspec.structs.replace(self, advantages=[value * bit for bit in self.mask])

    def with_turn_advantages(self, by_step: Mapping[int, float]) -> Sample:
        """The sample with an advantage per step of the rollout. KeyError for a turn that has none."""
        advantages = [0.0] * len(self.completion_ids)
        for turn in self.turns:
            advantages[turn.start : turn.end] = [by_step[turn.step]] * (turn.end - turn.start)
        return msgspec.structs.replace(self, advantages=advantages)
