"""Rows of one forward pass: sorted by length, so that little is padded, and no more tokens than a pass may have.

Rows are padded on the right and need no attention mask: a causal model never looks there from a token that counts. With
an attention that knows borders between packed rows (FlashAttention), rows lie end to end in one, and nothing is padded.
Without it, what rows have in common at their beginning is taken out and computed once (`sharing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.torch.sharing import Start, beginnings, start_of

if TYPE_CHECKING:
    from torch import Tensor


class Row(msgspec.Struct, frozen=True):
    """What the model is shown, and which of its tokens are predicted (places in `ids`, ascending, none of them 0)."""

    ids: list[int]
    targets: list[int]

    @property
    def inputs(self) -> list[int]:
        """Nothing after the last predicted token matters, nor that token itself."""
        return self.ids[: self.targets[-1]] if self.targets else self.ids

    @property
    def known(self) -> list[int]:
        """What comes before the token from which the first is predicted: other rows may share it."""
        return self.ids[: self.targets[0] - 1] if self.targets else []


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
    start: Start | None = None
    """Beginnings that were taken out of the rows."""

    @property
    def num_tokens(self) -> int:
        """Computed, with padding."""
        return self.input_ids.numel() + (self.start.input_ids.numel() if self.start else 0)


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
    rows: Sequence[Row],
    *,
    device: Any,
    is_packed: bool = False,
    has_ends: bool = False,
    least_saved: int | None = None,
) -> Batch:
    """`has_ends`: rows are shown to their last token, which `ends` points to. `least_saved`: beginnings are taken out
    where that saves more tokens than these; None: never."""
    import torch

    shown = [row.ids if has_ends else row.inputs for row in rows]
    start = None if least_saved is None else _start(rows, shown, least_saved, device)
    skipped = start.lengths.tolist() if start else [0] * len(rows)
    shown = [ids[skip:] for ids, skip in zip(shown, skipped, strict=True)]
    offsets = _starts(shown) if is_packed else [0] * len(rows)
    lines = [0] * len(rows) if is_packed else list(range(len(rows)))
    if is_packed:
        table = [[token for ids in shown for token in ids]]
    else:
        longest = max(len(ids) for ids in shown)
        table = [ids + [0] * (longest - len(ids)) for ids in shown]

    def flat(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    places = [offset - skip - 1 for offset, skip in zip(offsets, skipped, strict=True)]
    positions = flat([[i for ids in shown for i in range(len(ids))]]) if is_packed else None
    if start:
        positions = start.lengths[:, None] + torch.arange(len(table[0]), device=device)
    return Batch(
        input_ids=flat(table),
        position_ids=positions,
        where=(
            flat([line for line, row in zip(lines, rows, strict=True) for _ in row.targets]),
            flat([place + t for place, row in zip(places, rows, strict=True) for t in row.targets]),
        ),
        ends=(flat(lines), flat([offset + len(ids) - 1 for offset, ids in zip(offsets, shown, strict=True)])),
        targets=flat([row.ids[t] for row in rows for t in row.targets]),
        rows=flat([index for index, row in enumerate(rows) for _ in row.targets]),
        start=start,
    )


def _start(rows: Sequence[Row], shown: Sequence[list[int]], least_saved: int, device: Any) -> Start | None:
    """The beginnings of the rows; None where too little is saved, padding counted."""
    shared = [one for one in beginnings([row.known for row in rows]) if len(one.rows) > 1]
    if not shared:
        return None
    left = [len(ids) for ids in shown]
    for one in shared:
        for row in one.rows:
            left[row] -= len(one.ids)
    taken_out = len(shared) * max(len(one.ids) for one in shared)
    saved = len(rows) * (max(map(len, shown)) - max(left)) - taken_out
    return start_of(shared, len(rows), device) if saved > least_saved else None


def _starts(shown: Sequence[list[int]]) -> list[int]:
    starts = [0]
    for ids in shown[:-1]:
        starts.append(starts[-1] + len(ids))
    return starts
