"""A reward model: a value head at the last token, trained so that preferred answers score higher (Bradley–Terry)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from agentlightning.engine.torch.losses.base import Kind, Need, Terms, Tokens


class RewardModel(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over pairs of -log sigmoid(score of the better - score of the worse)."""

    centre_coef: float = 0.0
    """Keeps scores near zero, which preferences alone leave open (arXiv 2312.09244). Times the pair's squared sum."""

    kind: ClassVar[Kind] = "pairs"
    needs: ClassVar[frozenset[Need]] = frozenset({"scores"})
    temperature: ClassVar[float] = 1.0
    reference: ClassVar[str | None] = None
    normalise: ClassVar[str] = "pairs"
    max_tokens: ClassVar[int] = 1

    def terms(self, tokens: Tokens) -> Terms:
        from torch.nn.functional import logsigmoid

        assert tokens.scores is not None
        better, worse = tokens.scores[0::2], tokens.scores[1::2]
        loss = -logsigmoid(better - worse) + self.centre_coef * (better + worse).square()
        return Terms(loss=loss, is_right=(better > worse).detach())
