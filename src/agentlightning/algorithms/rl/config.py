"""The settings of reinforcement learning; the defaults reached the demo's goal in every seed that was tried."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from agentlightning.algorithms.base import AlgorithmConfig

MethodName = Literal["grpo", "dr_grpo", "rloo", "reinforce++", "ppo", "cispo", "gspo"]


class RLConfig(AlgorithmConfig):
    """Settings of `rl` and of every method named after its paper."""

    method: MethodName = "grpo"
    """Which advantages and which loss; see `algorithms/rl/methods.py`."""

    # -- how much
    policy_lr: float = Field(default=3e-4, gt=0)
    """Learning rate. 3e-4 suits models of about a million parameters that are trained whole, 3e-3 their adapters; for
    a 7B model begin at 1e-5. Success on validation tasks that falls and comes back says that it is too high."""
    group_size: int = Field(default=8, ge=1)
    """Rollouts of one task that are compared with one another."""
    batch_size: int = Field(default=16, ge=1)
    """Tasks in one iteration."""
    iterations: int | None = Field(default=None, ge=1)
    """Rounds of sampling and learning. As many as `trainer.max_epochs` passes over the tasks take, when not given."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the rollouts that are learned from. Measuring (and the policy handed back) keeps the agent's own."""

    # -- how weights move
    num_minibatches: int = Field(default=2, ge=1)
    """Optimiser steps in one iteration, rollouts kept whole."""
    warmup_steps: int = Field(default=3, ge=0)
    """Optimiser steps until the learning rate is reached."""
    final_rate: float = Field(default=0.1, ge=0, le=1)
    """Share of the learning rate at the end; it falls in a straight line."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """A longer gradient is shortened to this."""
    clip: tuple[float, float] | None = None
    """How far a token's ratio may go below and above 1. The method's own when not given."""
    kl: float = Field(default=0.0, ge=0)
    """Pull towards the weights this stage began with."""
    entropy: float = Field(default=0.0, ge=0)
    """Bonus for staying undecided."""
    correction: Literal["tis", "mask", "none"] = "tis"
    """What is done about samples of older weights: weigh them (truncated), leave out those too far off, or nothing."""
    max_weight: float = Field(default=2.0, gt=1)
    """Bound of that correction."""
    max_tokens_per_pass: int = Field(default=8192, ge=1)
    """Tokens computed at once; lower it when memory runs out."""

    # -- who earned what
    credit: Literal["episode", "discounted", "steps", "anchor"] = "episode"
    """How a rollout's reward reaches its answers; see `algorithms/rl/credit.py`, which says where each is biased."""
    discount: float = Field(default=0.95, gt=0, le=1)
    """Per model call, for the credits that discount."""
    anchor_weight: float = Field(default=1.0, ge=0)
    """Of the comparison between answers to the same observation (`anchor`), beside the episode's."""
    gae_lambda: float = Field(default=0.95, ge=0, le=1)
    """`ppo`: how far it trusts what happened over what the critic expected."""
    critic_lr: float = Field(default=1e-3, gt=0)
    """`ppo`: learning rate of the critic."""
    normalise: Literal["per_agent", "shared"] = "per_agent"
    """Whether an agent's rewards are compared with its own (Dr. MAS, arXiv 2602.08847) or with everybody's."""
    std_floor: float = Field(default=0.1, ge=0)
    """Added to a group's standard deviation, so that one lucky rollout among many does not shout."""
    cooperation: Literal["shared", "mixed", "difference"] = "shared"
    """What an agent of several is rewarded for; see `algorithms/rl/cooperation.py`."""
    own_share: float = Field(default=0.5, ge=0, le=1)
    """`mixed`: weight of an agent's own reward beside the team's."""
    num_counterfactuals: int = Field(default=4, ge=1)
    """`difference`: rollouts of each task and agent in which that agent has its weights of before the stage."""

    # -- how it is run
    max_staleness: int = Field(default=0, ge=0)
    """Updates that samples may be behind. 0: sample, then learn. More: both at once."""
    redraws: int = Field(default=0, ge=0)
    """How often an iteration replaces tasks whose rollouts were all as good as each other by the next ones."""
    curriculum: Literal["none", "uncertain"] = "none"
    """uncertain: from the second epoch on, tasks that are sometimes solved come first, more often than not."""
    evaluate_every: int = Field(default=5, ge=1)
    """Iterations between measurements on the validation tasks; there is always one at the end."""
    keep_best: bool = True
    """Hand back the weights that did best there, not the last."""
    dump: bool = False
    """Write every trained token with its logprobs and advantage into the stage's folder."""

    @model_validator(mode="after")
    def _fits_together(self) -> RLConfig:
        if self.group_size == 1 and self.method not in ("reinforce++", "ppo"):
            raise ValueError(
                f"group_size 1 gives {self.method} nothing to compare a rollout with; use 2 or more (or reinforce++)"
            )
        if self.clip is not None and self.method == "rloo":
            raise ValueError("rloo clips nothing, so clip would have no effect; use grpo or ppo to clip")
        if self.clip is not None and not (0 < self.clip[0] <= 1 and self.clip[1] > 0):
            raise ValueError(f"clip is (below, above) 1, such as (0.2, 0.28), not {self.clip}")
        if self.method == "ppo" and (self.credit != "episode" or self.cooperation == "difference"):
            raise ValueError("ppo takes its credit from its critic, so credit and cooperation: difference do not apply")
        return self

    def loss_options(self) -> dict[str, Any]:
        """What the engine's loss is told; its own defaults for the rest."""
        clip = {"clip_low": self.clip[0], "clip_high": self.clip[1]} if self.clip else {}
        kl = {"kl_coef": self.kl} if self.kl else {}
        entropy = {"entropy_coef": self.entropy} if self.entropy else {}
        stale = {"correction": self.correction, "max_weight": self.max_weight}
        return {"temperature": self.temperature, **stale, **clip, **kl, **entropy}
