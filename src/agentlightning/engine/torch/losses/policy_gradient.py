"""What all policy-gradient losses share: importance ratios, correction of stale samples, KL, entropy.

Every loss is a mean over each rollout's own sampled tokens, then over rollouts: in how many rows a rollout lies changes
neither loss nor gradient.

Two ratios. *Stale samples* were drawn under weights w0; the update began with w1; after some mini-batches the weights
are w2. With a correction the clipped ratio is w2/w1 and each token weighs w1/w0, truncated (`tis`) or dropped when too
far from 1 (`mask`), so that clipping keeps its meaning however stale the samples are. `none`: one ratio, w2/w0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import msgspec

from agentlightning.engine.torch.losses.base import Kind, Need, Terms, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class PolicyGradient(msgspec.Struct, frozen=True, kw_only=True):
    """Options of all of them."""

    temperature: float = 1.0
    """At which the samples were drawn."""
    correction: Literal["tis", "mask", "none"] = "tis"
    max_weight: float = 2.0
    """`tis`: weights are at most this. `mask`: outside 1/max_weight … max_weight a token does not learn."""
    kl_coef: float = 0.0
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Schulman's names (joschu.net/blog/kl-approx.html). Only k2 and k3 lead back to the reference as a loss term."""
    reference: str | None = None
    entropy_coef: float = 0.0
    normalise: Literal["rollout", "tokens", "constant"] = "rollout"
    max_tokens: int = 1024

    kind: ClassVar[Kind] = "tokens"

    @property
    def needs(self) -> frozenset[Need]:
        needs: set[Need] = {"logprobs", "old", "advantages"}
        needs |= {"proximal"} if self.correction != "none" else set()
        needs |= {"reference"} if self.kl_coef else set()
        needs |= {"entropy"} if self.entropy_coef else set()
        return frozenset(needs)

    def log_ratio(self, tokens: Tokens) -> Tensor:
        """log of the probability now by the one that clipping measures from."""
        assert tokens.logprobs is not None
        start = tokens.old if self.correction == "none" else tokens.proximal
        assert start is not None
        return tokens.logprobs - start

    def finish(self, tokens: Tokens, loss: Tensor, ratio: Tensor, is_clipped: Tensor | None = None) -> Terms:
        """The loss with correction, KL and entropy bonus."""
        weight, is_masked = self._staleness(tokens)
        loss = loss if weight is None else loss * weight
        if tokens.reference is not None and self.kl_coef:
            loss = loss + self.kl_coef * self._kl(tokens)
        if tokens.entropy is not None and self.entropy_coef:
            loss = loss - self.entropy_coef * tokens.entropy
        return Terms(loss=loss, ratio=ratio.detach(), is_clipped=is_clipped, is_masked=is_masked)

    def _staleness(self, tokens: Tokens) -> tuple[Tensor | None, Tensor | None]:
        if self.correction == "none" or tokens.proximal is None or tokens.old is None:
            return None, None
        weight = (tokens.proximal - tokens.old).exp()
        if self.correction == "tis":
            return weight.clamp(max=self.max_weight), None
        is_masked = (weight > self.max_weight) | (weight < 1 / self.max_weight)
        return weight.masked_fill(is_masked, 0.0), is_masked

    def _kl(self, tokens: Tokens) -> Tensor:
        assert tokens.reference is not None and tokens.logprobs is not None
        difference = tokens.reference - tokens.logprobs
        if self.kl_estimator == "k1":
            return -difference
        return difference.square() / 2 if self.kl_estimator == "k2" else difference.exp() - difference - 1


def clipped(ratio: Tensor, advantages: Tensor | None, low: float, high: float) -> tuple[Tensor, Tensor]:
    """PPO's pessimistic surrogate (arXiv 1707.06347, eq. 7) as a loss, and where the clip is at work."""
    import torch

    assert advantages is not None
    free, held = ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages
    return -torch.minimum(free, held), (held < free).detach()
