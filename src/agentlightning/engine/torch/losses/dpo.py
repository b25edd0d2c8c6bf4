"""DPO (arXiv 2305.18290): the preferred answer gains on the other, measured from the weights the adapter started with.

`label_smoothing` is the share of preferences taken to be wrong (cDPO); `sft_coef` adds the preferred answer's mean
cross-entropy, which keeps its own probability from sinking along with the other's (RPO, arXiv 2404.19733).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import msgspec

from agentlightning.engine.torch.losses.base import Kind, Need, Terms, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class DPO(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over pairs."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    sft_coef: float = 0.0
    reference: str | None = None
    """Weights to measure from; None: the adapter's start."""

    kind: ClassVar[Kind] = "pairs"
    needs: ClassVar[frozenset[Need]] = frozenset({"logprobs", "reference"})
    temperature: ClassVar[float] = 1.0
    normalise: ClassVar[str] = "pairs"
    max_tokens: ClassVar[int] = 1

    def terms(self, tokens: Tokens) -> Terms:
        from torch.nn.functional import logsigmoid

        assert tokens.logprobs is not None and tokens.reference is not None
        gains = sum_of_rows(tokens.logprobs - tokens.reference, tokens.rows)
        margin = self.beta * (gains[0::2] - gains[1::2])
        loss = -(1 - self.label_smoothing) * logsigmoid(margin) - self.label_smoothing * logsigmoid(-margin)
        if self.sft_coef:
            ones = tokens.logprobs.new_ones(len(tokens.logprobs))
            means = sum_of_rows(tokens.logprobs, tokens.rows) / sum_of_rows(ones, tokens.rows)
            loss = loss - self.sft_coef * means[0::2]
        return Terms(loss=loss, is_right=(margin > 0).detach())


def sum_of_rows(values: Tensor, rows: Tensor) -> Tensor:
    """One sum for each row."""
    return values.new_zeros(int(rows.max()) + 1).index_add(0, rows, values)
