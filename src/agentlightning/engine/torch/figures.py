"""What an update's metrics are made of: sums over the tokens of its forward passes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from agentlightning.engine.torch.losses.base import Terms, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class Figures:
    """Means over tokens (or pairs), and the largest ratio."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)
        self._ratio_max = 0.0
        self._has_ratio = False

    def add(self, tokens: Tokens, terms: Terms, entropy: Tensor | None) -> None:
        self._mean("entropy", entropy)
        self._mean("clipped_share", terms.is_clipped)
        self._mean("masked_share", terms.is_masked)
        self._mean("accuracy", terms.is_right)
        if terms.ratio is not None:
            self._mean("ratio_mean", terms.ratio)
            self._ratio_max, self._has_ratio = max(self._ratio_max, float(terms.ratio.max())), True
        if tokens.old is not None and tokens.logprobs is not None:
            move = tokens.logprobs.detach() - tokens.old
            self._mean("kl_to_sampler", move.exp() - move - 1)

    def of_step(self, **values: float) -> None:
        """Means over optimiser steps."""
        for name, value in values.items():
            self._sums[name] += value
            self._counts[name] += 1

    def result(self) -> dict[str, float]:
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        return {**means, "ratio_max": self._ratio_max} if self._has_ratio else means

    def _mean(self, name: str, values: Tensor | None) -> None:
        if values is not None:
            self._sums[name] += float(values.detach().float().sum())
            self._counts[name] += values.numel()
