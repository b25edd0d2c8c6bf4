"""GRPO (arXiv 2402.03300) with a higher upper clip (DAPO, arXiv 2503.14476) and no KL term by default.

Group-relative advantages come from the algorithm; here is what a token does with its own.
"""

from __future__ import annotations

from agentlightning.engine.torch.losses.base import Terms, Tokens
from agentlightning.engine.torch.losses.policy_gradient import PolicyGradient, clipped


class GRPO(PolicyGradient, frozen=True, kw_only=True):
    """Clipped ratio of each token."""

    clip_low: float = 0.2
    clip_high: float = 0.28

    def terms(self, tokens: Tokens) -> Terms:
        ratio = self.log_ratio(tokens).exp()
        loss, is_clipped = clipped(ratio, tokens.advantages, self.clip_low, self.clip_high)
        return self.finish(tokens, loss, ratio, is_clipped)
