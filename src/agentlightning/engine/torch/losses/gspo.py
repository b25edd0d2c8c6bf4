"""GSPO (arXiv 2507.18071): one ratio for a whole answer, the geometric mean of its tokens' ratios; clipped as one.

An answer is one sampled turn. A ratio over a rollout's many turns would depend on how many rows it became, and clip
them all for one. For rollouts of one turn this is the paper's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentlightning.engine.torch.losses.base import Terms, Tokens
from agentlightning.engine.torch.losses.policy_gradient import PolicyGradient, clipped

if TYPE_CHECKING:
    from torch import Tensor


class GSPO(PolicyGradient, frozen=True, kw_only=True):
    """Clips are far tighter than a token's, since the mean moves far less."""

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    def terms(self, tokens: Tokens) -> Terms:
        ratio = _mean_of_turns(self.log_ratio(tokens), tokens.turns).exp()
        loss, is_clipped = clipped(ratio, tokens.advantages, self.clip_low, self.clip_high)
        return self.finish(tokens, loss, ratio, is_clipped)


def _mean_of_turns(values: Tensor, turns: Tensor) -> Tensor:
    """Each token's value replaced by the mean of its turn."""
    num_turns = int(turns.max()) + 1
    sums = values.new_zeros(num_turns).index_add(0, turns, values)
    counts = values.new_zeros(num_turns).index_add(0, turns, values.new_ones(len(values)))
    return (sums / counts)[turns]
