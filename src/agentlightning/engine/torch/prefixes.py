"""Which computed prefix does a new prompt begin with? Blocks of ids are chained into names, and names are looked up.

Rows that are running can be copied from; rows that have ended leave a *piece* (their keys and values) behind, so that
the next turn of a rollout, and the other rollouts of its group, do not compute the same tokens again. Pieces go when
memory for them runs out, the least recently used first, and those of rollouts that ended before all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Protocol

from agentlightning.engine.torch.cache import Piece

BLOCK = 16


class Holder(Protocol):
    """A row or a piece: something that has the keys and values of these ids."""

    @property
    def computed_ids(self) -> Sequence[int]: ...


class Kept:
    """What a row left behind."""

    def __init__(self, ids: list[int], piece: Piece, rollout_id: str) -> None:
        self.computed_ids = ids
        self.piece = piece
        self.rollout_id = rollout_id

    @property
    def num_bytes(self) -> int:
        return sum(part.numel() * part.element_size() for part in self.piece)


class PrefixIndex:
    """Holders by the blocks that their ids begin with; for one set of weights."""

    def __init__(self) -> None:
        self._holders: dict[int, dict[Holder, None]] = {}
        self._names: dict[Holder, list[int]] = {}

    def add(self, holder: Holder) -> None:
        names = list(_chain(holder.computed_ids))
        self._names[holder] = names
        for name in names:
            self._holders.setdefault(name, {})[holder] = None

    def remove(self, holder: Holder) -> None:
        for name in self._names.pop(holder, ()):
            found = self._holders[name]
            found.pop(holder, None)
            if not found:
                del self._holders[name]

    def find(self, ids: Sequence[int]) -> tuple[Holder | None, int]:
        """The holder with the longest common beginning, and its length (at least one block)."""
        best: dict[Holder, None] = {}
        for name in _chain(ids):
            if name not in self._holders:
                break
            best = self._holders[name]
        found: tuple[Holder | None, int] = (None, 0)
        for holder in list(best)[-4:]:
            length = shared_length(holder.computed_ids, ids)
            if length >= BLOCK and length > found[1]:
                found = holder, length
        return found


class Pieces:
    """What ended rows left behind, up to a number of bytes, over all weights."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[Kept, PrefixIndex] = OrderedDict()

    def keep(self, kept: Kept, index: PrefixIndex) -> None:
        self._kept[kept] = index
        self.num_bytes += kept.num_bytes
        index.add(kept)
        while self.num_bytes > self.max_bytes and self._kept:
            self.drop(next(iter(self._kept)))

    def drop(self, kept: Kept) -> None:
        index = self._kept.pop(kept, None)
        if index is not None:
            self.num_bytes -= kept.num_bytes
            index.remove(kept)

    def used(self, kept: Kept) -> None:
        if kept in self._kept:
            self._kept.move_to_end(kept)

    def forget(self, rollout_id: str) -> None:
        """They are the first to go when room is needed; until then their beginnings may serve others."""
        for kept in [kept for kept in self._kept if kept.rollout_id == rollout_id]:
            self._kept.move_to_end(kept, last=False)

    def drop_all(self, index: PrefixIndex) -> None:
        """Of weights that changed."""
        for kept in [kept for kept, where in self._kept.items() if where is index]:
            self.drop(kept)


def shared_length(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many ids two lists begin with in common."""
    low, high = 0, min(len(ours), len(theirs))
    if ours[:high] == theirs[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if ours[low:middle] == theirs[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _chain(ids: Sequence[int]) -> Iterator[int]:
    """A name for each whole number of blocks."""
    name = 0
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        name = hash((name, *ids[start : start + BLOCK]))
        yield name
