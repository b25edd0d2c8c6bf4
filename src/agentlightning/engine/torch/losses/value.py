"""A critic for PPO: a value head says, before each sampled token, what return to expect.

The returns to learn from are in the samples' `advantages`, one for each token, as the algorithm put them there.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from agentlightning.engine.torch.losses.base import Kind, Need, Terms, Tokens


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Half the squared error, mean over each rollout's tokens, then over rollouts."""

    normalise: Literal["rollout", "tokens"] = "rollout"

    kind: ClassVar[Kind] = "tokens"
    needs: ClassVar[frozenset[Need]] = frozenset({"values", "advantages"})
    temperature: ClassVar[float] = 1.0
    reference: ClassVar[str | None] = None
    max_tokens: ClassVar[int] = 1

    def terms(self, tokens: Tokens) -> Terms:
        assert tokens.values is not None and tokens.advantages is not None
        return Terms(loss=(tokens.values - tokens.advantages).square() / 2)
