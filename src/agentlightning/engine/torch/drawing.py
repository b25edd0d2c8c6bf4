"""Draws the next token of every row at once, each from its own temperature, cuts and luck.

Luck is one uniform number per row and position, mapped through the cumulative distribution; so a row's tokens do not
depend on its neighbours. The logprob told is of the whole distribution at the row's temperature (without top-p and
top-k), which is what a fresh forward pass gives; for greedy rows, at temperature 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from torch import Tensor

_SHRUNK = 1 - 2.0**-22
"""Rounding must not carry a uniform number to the end of the cumulative sum, where tokens that were cut off lie."""


class Draws(msgspec.Struct, frozen=True):
    """How to draw for some rows; None where it is the same as doing nothing."""

    temperature: Tensor | None = None
    """(rows, 1), 1 for greedy rows. None: 1 everywhere."""
    is_greedy: Tensor | None = None
    """(rows, 1) of booleans."""
    is_all_greedy: bool = False
    top_p: Tensor | None = None
    """(rows, 1). None, together with `top_k`: nothing is cut off."""
    top_k: Tensor | None = None


def draw(logits: Tensor, luck: Tensor, how: Draws) -> tuple[Tensor, Tensor]:
    """Token ids and logprobs, both (rows, 1), of logits (rows, vocabulary) and luck (rows, 1)."""
    scores = logits.float()
    if how.temperature is not None:
        scores = scores / how.temperature
    total = scores.logsumexp(-1, keepdim=True)
    if how.is_all_greedy:
        ids = scores.argmax(-1, keepdim=True)
    else:
        ids = _drawn(scores, total, luck, how)
        if how.is_greedy is not None:
            ids = ids.where(~how.is_greedy, scores.argmax(-1, keepdim=True))
    return ids, scores.gather(-1, ids) - total


def _drawn(scores: Tensor, total: Tensor, luck: Tensor, how: Draws) -> Tensor:
    import torch

    chances = (scores - total).exp_()
    if how.top_p is not None and how.top_k is not None:
        chances = _cut(chances, how.top_p, how.top_k)
    summed = chances.cumsum_(-1)
    return torch.searchsorted(summed, luck * summed[:, -1:] * _SHRUNK, right=True)


def _cut(chances: Tensor, top_p: Tensor, top_k: Tensor) -> Tensor:
    """Zero for all but the likeliest tokens: `top_k` of them, and no more than it takes to reach `top_p`."""
    import torch

    ordered, places = chances.sort(-1, descending=True)
    rank = torch.arange(ordered.shape[-1], device=ordered.device)
    ordered[(ordered.cumsum(-1) - ordered >= top_p) | (rank >= top_k)] = 0
    return torch.zeros_like(chances).scatter_(-1, places, ordered)
