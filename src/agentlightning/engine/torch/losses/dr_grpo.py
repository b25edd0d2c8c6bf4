"""Dr. GRPO (arXiv 2503.20783): GRPO whose token losses are divided by a constant, not by the rollout's own length.

Division by the own length makes long wrong answers cheap. The constant is `max_tokens`, what a rollout may sample.
"""

from __future__ import annotations

from typing import Literal

from agentlightning.engine.torch.losses.grpo import GRPO


class DrGRPO(GRPO, frozen=True, kw_only=True):
    """GRPO with another normaliser and the plain clip."""

    clip_high: float = 0.2
    normalise: Literal["rollout", "tokens", "constant"] = "constant"
