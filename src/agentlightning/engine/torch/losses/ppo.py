"""PPO's policy half (arXiv 1707.06347); the critic learns with the loss `value`, as an adapter of its own.

`dual_clip` bounds what one very unlikely token with a negative advantage can do (arXiv 1912.09729).
"""

from __future__ import annotations

from agentlightning.engine.torch.losses.base import Terms, Tokens
from agentlightning.engine.torch.losses.policy_gradient import PolicyGradient, clipped


class PPO(PolicyGradient, frozen=True, kw_only=True):
    """Clipped ratio of each token."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None

    def terms(self, tokens: Tokens) -> Terms:
        import torch

        assert tokens.advantages is not None
        ratio = self.log_ratio(tokens).exp()
        loss, is_clipped = clipped(ratio, tokens.advantages, self.clip_low, self.clip_high)
        if self.dual_clip is not None:
            bound = -self.dual_clip * tokens.advantages
            is_bound = (tokens.advantages < 0) & (loss > bound)
            loss, is_clipped = torch.where(is_bound, bound, loss), is_clipped | is_bound
        return self.finish(tokens, loss, ratio, is_clipped)
