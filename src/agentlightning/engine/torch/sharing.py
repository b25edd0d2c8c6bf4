"""Rows that begin alike: what they share is computed once, forward and backward.

The rollouts of a group begin with one prompt, often with the same answers, and agents of a team with one instruction.
Such rows are a tree. It is computed in *levels*, from one depth to the next: a level has a segment for each different
beginning that reaches into it, and reads the keys and values of the levels before, handed down from parent to child.
Gradients flow back the same way, so loss and gradient are those of whole rows; only the computing is less.

All that comes before a segment is as long as its level is deep, so nothing is padded but the ends of rows, and the
model's own causal mask is the right one. Where to cut is a shortest path: segments × depth, and a price for each level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch.cache import cache_word, layout_of
from agentlightning.engine.torch.prefixes import shared_length
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_DEPTHS = 48
"""At which a cut is considered."""


@dataclass
class Level:
    """From depth `start` on."""

    start: int
    segments: list[list[int]]
    parents: list[int]
    """Of each segment: its parent among the segments of the level before."""
    of_row: dict[int, int]
    """Row → its segment; rows that have ended have none."""

    @property
    def width(self) -> int:
        return max(map(len, self.segments))


class Tree:
    """Some rows, sorted. `neighbours[i]`: what row i and the next have in common."""

    def __init__(self, rows: Sequence[list[int]]) -> None:
        self.order = sorted(range(len(rows)), key=rows.__getitem__)
        self.rows = [rows[place] for place in self.order]
        self.neighbours = [*(shared_length(one, other) for one, other in pairwise(self.rows)), 0]

    @property
    def num_tokens(self) -> int:
        """Different ones."""
        return sum(map(len, self.rows)) - sum(self.neighbours)

    def levels(self, price: int) -> list[Level]:
        """The cheapest; `price` of each, in tokens."""
        found: list[Level] = []
        for start, end in pairwise([0, *self._depths(price)]):
            found.append(self._level(start, end, found[-1].of_row if found else {}))
        return found

    def _level(self, start: int, end: int, above: dict[int, int]) -> Level:
        level = Level(start, [], [], {})
        for number in reversed(range(len(self.rows))):
            row, place = self.rows[number], self.order[number]
            if len(row) <= start:
                continue
            if self.neighbours[number] >= min(end, len(row)):  # the next row goes the same way, at least as far
                level.of_row[place] = level.of_row[self.order[number + 1]]
                continue
            level.of_row[place] = len(level.segments)
            level.segments.append(row[start:end])
            level.parents.append(above.get(place, 0))
        return level

    def _depths(self, price: int) -> list[int]:
        """Where levels end: the shortest path from 0 to the longest row's end."""
        depths = _thinned(sorted({len(row) for row in self.rows} | set(self.neighbours) - {0}))
        counts = self._counts([0, *depths])
        best, came = [0.0], [0]
        for end in range(1, len(depths) + 1):
            stop = depths[end - 1]
            costs = [
                best[start] + counts[start][end] * (stop - (depths[start - 1] if start else 0)) + price
                for start in range(end)
            ]
            came.append(min(range(end), key=costs.__getitem__))
            best.append(costs[came[-1]])
        path, place = list[int](), len(depths)
        while place:
            path.append(depths[place - 1])
            place = came[place]
        return path[::-1]

    def _counts(self, depths: list[int]) -> list[list[float]]:
        """Segments of a level from one depth (first index) to another."""
        import torch

        lengths, shared = torch.tensor([len(row) for row in self.rows]), torch.tensor(self.neighbours)
        at = torch.tensor(depths)[:, None]
        is_own = shared < torch.minimum(at, lengths)
        return ((lengths > at).float() @ is_own.float().T).tolist()


@dataclass(frozen=True)
class Part:
    """A level as tensors."""

    input_ids: Tensor
    """(segments, widest), padded on the right."""
    position_ids: Tensor
    """(1, widest)"""
    parents: Tensor | None
    """None where every segment has the parent of its own number."""
    where: tuple[Tensor, Tensor]
    """Segment and column of each state from which something is predicted."""


def parts_of(levels: Sequence[Level], targets: Sequence[list[int]], device: Any) -> tuple[list[Part], Tensor]:
    """The levels as tensors, and for each target (row after row, as places in the row) the number of its state among
    all states that are predicted from, level after level."""
    import torch

    def flat(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    wanted: list[dict[tuple[int, int], int]] = [{} for _ in levels]
    found: list[tuple[int, int]] = []
    for row, own in enumerate(targets):
        number = 0
        for target in own:
            while number + 1 < len(levels) and target - 1 >= levels[number + 1].start:
                number += 1
            key = (levels[number].of_row[row], target - 1 - levels[number].start)
            found.append((number, wanted[number].setdefault(key, len(wanted[number]))))
    offsets = [sum(map(len, wanted[:number])) for number in range(len(levels))]
    parts: list[Part] = []
    num_above = 0
    for level, states in zip(levels, wanted, strict=True):
        table = [ids + [0] * (level.width - len(ids)) for ids in level.segments]
        is_same = not level.start or level.parents == list(range(num_above))
        columns = torch.arange(level.start, level.start + level.width, device=device)[None]
        where = (flat([segment for segment, _ in states]), flat([column for _, column in states]))
        parts.append(Part(flat(table), columns, None if is_same else flat(level.parents), where))
        num_above = len(level.segments)
    return parts, flat([offsets[number] + place for number, place in found])


def can_share(model: Any) -> bool:
    """Whether the model keeps the keys and values of what it computed, and nothing else."""
    if _recomputes(model):
        return False
    try:
        layout_of(model)
    except ModelError:
        return False
    return True


def cache_of(model: Any) -> dict[str, Any]:
    """What the model is told, for the first and all further levels."""
    from transformers import DynamicCache

    return {cache_word(model): DynamicCache(config=model.config), "use_cache": True}


def hand_down(told: dict[str, Any], parents: Tensor | None) -> None:
    """Keys and values of parents become their children's."""
    if parents is None:
        return
    seen = next(value for name, value in told.items() if name != "use_cache")
    for layer in seen.layers:
        layer.keys, layer.values = (part.index_select(0, parents) for part in (layer.keys, layer.values))


def _thinned(depths: list[int]) -> list[int]:
    """At most so many, the last among them."""
    if len(depths) <= _MAX_DEPTHS:
        return depths
    step = len(depths) / _MAX_DEPTHS
    return [depths[int((number + 1) * step) - 1] for number in range(_MAX_DEPTHS - 1)] + depths[-1:]


def _recomputes(model: Any) -> bool:
    """Gradient checkpointing keeps no keys and values."""
    is_new = hasattr(type(model), "is_activation_checkpointing")  # the word from transformers 5.24 on
    return bool(getattr(model, "is_activation_checkpointing" if is_new else "is_gradient_checkpointing", False))
