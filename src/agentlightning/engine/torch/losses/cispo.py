"""CISPO (MiniMax-M1, arXiv 2506.13585): REINFORCE weighted by a clipped ratio, so no token is ever dropped."""

from __future__ import annotations

from agentlightning.engine.torch.losses.base import Terms, Tokens
from agentlightning.engine.torch.losses.policy_gradient import PolicyGradient


class CISPO(PolicyGradient, frozen=True, kw_only=True):
    """Only the upper side is clipped by default, as in the paper's own runs."""

    clip_low: float = 1.0
    clip_high: float = 4.0

    def terms(self, tokens: Tokens) -> Terms:
        assert tokens.advantages is not None and tokens.logprobs is not None
        ratio = self.log_ratio(tokens).detach().exp()
        weight = ratio.clamp(1 - self.clip_low, 1 + self.clip_high)
        return self.finish(tokens, -weight * tokens.advantages * tokens.logprobs, ratio, weight != ratio)
