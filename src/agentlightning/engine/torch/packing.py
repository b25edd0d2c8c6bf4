"""Rows of one forward pass: sorted by length, so that little is padded, and no more tokens than a pass may have.

Rows are padded on the right and need no attention mask: a causal model never looks there from a token that counts. With
an attention that knows borders between packed rows (FlashAttention), rows lie end to end in one, and nothing is padded.
Without it, rows that have much in common are computed as a tree (`sharing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.torch.sharing import Part, Tree, parts_of

if TYPE_CHECKING:
    from torch import Tensor


WORTH = 0.8
"""Different tokens among all, from which on rows are not computed as a tree."""


class Row(msgspec.Struct, frozen=True):
    """What the model is shown, and which of its tokens are predicted (places in `ids`, ascending, none of them 0)."""

    ids: list[int]
    targets: list[int]

    @property
    def inputs(self) -> list[int]:
        """Nothing after the last predicted token matters, nor that token itself."""
        return self.ids[: self.targets[-1]] if self.targets else self.ids


@dataclass(frozen=True)
class Batch:
    """Tensors of a forward pass. Flat ones have an entry for each predicted token, row after row."""

    input_ids: Tensor
    """(rows, longest), or (1, all) when packed."""
    position_ids: Tensor | None
    """Of packed rows, and of those that follow a beginning."""
    where: tuple[Tensor, Tensor]
    """Flat: row and column of the state from which each target is predicted."""
    ends: tuple[Tensor, Tensor]
    """Of each row: where its last token's state is."""
    targets: Tensor
    """Flat: the predicted ids."""
    rows: Tensor
    """Flat: which row."""
    parts: Sequence[Part] = ()
    """Levels of the rows' tree, if they are computed as one; `input_ids`, `where` and `ends` mean nothing then."""
    index: Tensor | None = None
    """Flat: of each target, its state among those of all levels."""

    @property
    def num_tokens(self) -> int:
        """Computed, with padding."""
        return sum(part.input_ids.numel() for part in self.parts) or self.input_ids.numel()


def passes(
    groups: Sequence[Sequence[int]], *, max_tokens: int, max_padding: int, is_packed: bool = False
) -> list[list[int]]:
    """Indices of groups (rows that must stay together, as lengths), cut into passes; the longest first.

    A group longer than `max_tokens` gets a pass of its own. Where shorter rows would be padded by more than
    `max_padding` tokens in all, another pass costs less.
    """
    cut: list[list[int]] = []
    size = padding = longest = 0
    for index in sorted(range(len(groups)), key=lambda index: -max(groups[index])):
        lengths = groups[index]
        added = sum(lengths) if is_packed else longest * len(lengths)
        wasted = added - sum(lengths)
        if not cut or size + added > max_tokens or padding + wasted > max_padding:
            cut.append([])
            longest, size, padding = max(lengths), 0, 0
            added = sum(lengths) if is_packed else longest * len(lengths)
            wasted = added - sum(lengths)
        cut[-1].append(index)
        size, padding = size + added, padding + wasted
    return cut


def batch(
    rows: Sequence[Row], *, device: Any, is_packed: bool = False, has_ends: bool = False, price: int | None = None
) -> Batch:
    """`has_ends`: rows are shown to their last token, which `ends` points to. `price`: of a level, in tokens, where the
    rows may be computed as a tree; None: they may not."""
    import torch

    shown = [row.ids if has_ends else row.inputs for row in rows]
    offsets = _starts(shown) if is_packed else [0] * len(rows)
    lines = [0] * len(rows) if is_packed else list(range(len(rows)))

    def flat(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    parts, index = [], None
    if price is not None:
        levels = Tree(shown).levels(price)
        if len(levels) > 1 or len(levels[0].segments) < len(rows):  # else nothing is shared: plain rows
            parts, index = parts_of(levels, [row.targets for row in rows], device)
    if is_packed:
        table = [[token for ids in shown for token in ids]]
    else:
        longest = 0 if parts else max(len(ids) for ids in shown)
        table = [(ids + [0] * (longest - len(ids)))[:longest] for ids in shown]
    return Batch(
        input_ids=flat(table),
        position_ids=flat([[i for ids in shown for i in range(len(ids))]]) if is_packed else None,
        where=(
            flat([line for line, row in zip(lines, rows, strict=True) for _ in row.targets]),
            flat([start + t - 1 for start, row in zip(offsets, rows, strict=True) for t in row.targets]),
        ),
        ends=(flat(lines), flat([start + len(ids) - 1 for start, ids in zip(offsets, shown, strict=True)])),
        targets=flat([row.ids[t] for row in rows for t in row.targets]),
        rows=flat([index for index, row in enumerate(rows) for _ in row.targets]),
        parts=parts,
        index=index,
    )


def branches(groups: Sequence[Sequence[list[int]]], max_tokens: int) -> list[list[int]] | None:
    """Passes over groups of rows that are computed as trees, as indices: rows that begin alike are in one pass, with no
    more different tokens than a pass may have. None where too little is shared to be worth it."""
    tree = Tree([ids for group in groups for ids in group])
    if tree.num_tokens > WORTH * sum(map(len, tree.rows)):
        return None
    owners = [number for number, group in enumerate(groups) for _ in group]
    cut: list[list[int]] = []
    size, placed = 0, set[int]()
    for number, place in enumerate(tree.order):
        if (owner := owners[place]) in placed:
            continue
        new = sum(map(len, groups[owner])) - (tree.neighbours[number - 1] if number else 0)
        if not cut or size + new > max_tokens:
            cut.append([])
            size, new = 0, sum(map(len, groups[owner]))
        placed.add(owner)
        cut[-1].append(owner)
        size += new
    return cut


def _starts(shown: Sequence[list[int]]) -> list[int]:
    starts = [0]
    for ids in shown[:-1]:
        starts.append(starts[-1] + len(ids))
    return starts
