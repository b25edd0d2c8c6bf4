"""Cross-entropy: supervised fine-tuning on the trained tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from agentlightning.engine.torch.losses.base import Kind, Need, Terms, Tokens


class CrossEntropy(msgspec.Struct, frozen=True, kw_only=True):
    """The mean over all tokens of a mini-batch by default; `rollout` gives every conversation the same weight."""

    normalise: Literal["tokens", "rollout"] = "tokens"

    kind: ClassVar[Kind] = "tokens"
    needs: ClassVar[frozenset[Need]] = frozenset({"logprobs"})
    temperature: ClassVar[float] = 1.0
    reference: ClassVar[str | None] = None
    max_tokens: ClassVar[int] = 1

    def terms(self, tokens: Tokens) -> Terms:
        assert tokens.logprobs is not None
        return Terms(loss=-tokens.logprobs)
