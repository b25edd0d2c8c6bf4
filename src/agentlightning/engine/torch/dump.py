"""Every trained token on a line of JSON, so that anybody can see what an update learned from, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.torch.items import Item
from agentlightning.engine.torch.losses.base import Terms, Tokens

if TYPE_CHECKING:
    from torch import Tensor


class TokenLine(msgspec.Struct, frozen=True, kw_only=True):
    """One token."""

    step: int
    """Of the optimiser, counted over the adapter's life."""
    rollout: str
    segment: int
    place: int
    """In the sample's completion."""
    id: int
    token: str
    old: float | None
    """Logprob under the weights that sampled it."""
    new: float | None
    advantage: float | None
    weight: float
    """Share in the step's loss."""
    mask: int
    """0: it was left out after all."""
    why: str
    """`trained`, `clipped`, `too stale`, `zero advantage`."""


def append(path: Path, items: Sequence[Item], tokens: Tokens, terms: Terms, *, tokenizer: Any, step: int) -> None:
    """Add the tokens of one forward pass."""
    count = sum(len(item.trained) for item in items)
    columns = zip(
        _numbers(tokens.old, count),
        _numbers(tokens.logprobs, count),
        _numbers(tokens.advantages, count),
        _numbers(terms.is_clipped, count),
        _numbers(terms.is_masked, count),
        strict=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for item in items:
            for place in item.trained:
                line = _line(item, place, next(columns), tokenizer, step)
                file.write(msgspec.json.encode(line) + b"\n")


def _line(item: Item, place: int, values: tuple[Any, ...], tokenizer: Any, step: int) -> TokenLine:
    old, new, advantage, is_clipped, is_masked = values
    why = "too stale" if is_masked else "clipped" if is_clipped else "zero advantage" if advantage == 0 else "trained"
    id = item.sample.completion_ids[place]
    return TokenLine(
        step=step,
        rollout=item.sample.rollout_id,
        segment=item.sample.segment_id,
        place=place,
        id=id,
        token=tokenizer.decode([id]) if tokenizer is not None else "",
        old=old,
        new=new,
        advantage=advantage,
        weight=item.weight,
        mask=0 if is_masked else 1,
        why=why,
    )


def _numbers(values: Tensor | None, count: int) -> list[Any]:
    """One for each token; None where the loss has none (or one for each pair only)."""
    return values.detach().tolist() if values is not None and len(values) == count else [None] * count
