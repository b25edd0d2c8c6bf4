"""RLOO (arXiv 2402.14740): plain REINFORCE; the leave-one-out baseline is in the advantages. Nothing is clipped."""

from __future__ import annotations

from agentlightning.engine.torch.losses.base import Terms, Tokens
from agentlightning.engine.torch.losses.policy_gradient import PolicyGradient


class RLOO(PolicyGradient, frozen=True, kw_only=True):
    """Ratio times advantage; for fresh samples its gradient is REINFORCE's."""

    def terms(self, tokens: Tokens) -> Terms:
        assert tokens.advantages is not None
        ratio = self.log_ratio(tokens).exp()
        return self.finish(tokens, -ratio * tokens.advantages, ratio)
