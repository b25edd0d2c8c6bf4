"""REINFORCE++ (arXiv 2501.03262): PPO's clip without a critic; advantages normalised over the whole batch.

The batch statistics are the algorithm's. With `kl_coef` the distance to the reference is the k2 term.
"""

from __future__ import annotations

from typing import Literal

from agentlightning.engine.torch.losses.grpo import GRPO


class ReinforcePP(GRPO, frozen=True, kw_only=True):
    """The clip is symmetric."""

    clip_high: float = 0.2
    kl_estimator: Literal["k1", "k2", "k3"] = "k2"
