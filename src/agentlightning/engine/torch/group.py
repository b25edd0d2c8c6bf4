"""The rows that are sampled under one name of weights, all in one batch that rows join and leave between two steps.

The running rows are slots 0, 1, … without gaps: when one ends, the last takes its place. A new row first takes over
what was already computed of its prompt, by this group or by rows that ended; the rest of it is read in passes beside
those of other new rows, right-aligned so that every row's last token is the last column. Rows of which all but one
token was known join the next step as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.torch.cache import Layout, Masks, Slots, attention_of, cache_word
from agentlightning.engine.torch.drawing import Draws, draw
from agentlightning.engine.torch.prefixes import BLOCK, Kept, Pieces, PrefixIndex
from agentlightning.engine.torch.row import Row

if TYPE_CHECKING:
    from torch import Tensor


_WORTH_WAITING = 2 * BLOCK
"""Tokens saved by letting another row compute a common beginning first."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be computed at once."""

    max_rows: int = 64
    """Of one batch; more wait."""
    max_tokens_per_pass: int = 8192
    """Of prompts that are read together, padding counted."""
    max_cache_bytes: int = 1 << 30
    """Of what ended rows leave behind for the next turns and rollouts."""


class Group:
    """Rows of one weights' name. The model is given to every call: weights change, the structure does not."""

    def __init__(self, model: Any, layout: Layout, limits: Limits, pieces: Pieces) -> None:
        self.rows: list[Row] = []
        self.num_read_tokens = 0
        """Tokens of prompts that had to be computed."""
        self.index = PrefixIndex()
        self._layout = layout
        self._limits = limits
        self._pieces = pieces
        self._device = layout.device
        self._attention = attention_of(model.config)
        self._options = _options(model)
        self._cache_word = cache_word(model)
        self._how: Draws | None = None
        self.release()

    def release(self) -> None:
        """Give the memory for rows back; there must be none."""
        import torch

        self._slots = Slots(self._layout, num_slots=0, columns=0)
        self._masks = Masks(*self._attention, self._layout.dtype, self._device)
        self._luck = torch.empty(0, 0, device=self._device)
        self._tokens = torch.empty(0, 1, dtype=torch.long, device=self._device)
        self._positions = torch.empty(0, dtype=torch.long, device=self._device)
        self._all = torch.empty(0, dtype=torch.long, device=self._device)

    @property
    def num_free(self) -> int:
        return self._limits.max_rows - len(self.rows)

    def admit(self, model: Any, rows: Sequence[Row]) -> list[Row]:
        """Rows join; those that ended with their first token are given back. Those with a common beginning go in two
        waves, so that it is computed once."""
        ended, waiting = list[Row](), list(rows)
        while waiting:
            wave, waiting = _first_of_each_beginning(waiting, self.index)
            ended += self._admit(model, wave)
        return ended

    def step(self, model: Any) -> list[Row]:
        """One more token for every row; gives back those that ended, which have left."""
        count = len(self.rows)
        lengths = [len(row.ids) for row in self.rows]
        longest = max(lengths)
        self._reserve(count, longest)
        rows, positions = self._all[:count], self._positions[:count]
        self._slots.reading(0, count, longest)
        if min(lengths) == longest:
            self._slots.writing_column(longest - 1, 1)
        else:
            self._slots.writing_each(rows, positions)
        mask = self._masks.step(rows, positions, longest)
        logits = self._compute(model, self._tokens[:count], positions[:, None], mask)
        ids, logprobs = self._draw(logits, rows, positions)
        self._tokens[:count] = ids
        positions += 1
        return self._added(self.rows, ids, logprobs)

    def leave(self, ended: Sequence[Row], *, keep: bool) -> None:
        """The rows make room; what they computed is kept for others."""
        gone = set(map(id, ended))
        for row in ended:
            self.index.remove(row)
            if keep:
                self._keep(row)
        staying = [place for place, row in enumerate(self.rows) if id(row) not in gone]
        holes = [place for place in range(len(staying)) if id(self.rows[place]) in gone]
        for hole, place in zip(holes, reversed(staying), strict=False):
            self._move(place, hole)
        del self.rows[len(staying) :]
        self._how = None

    def _admit(self, model: Any, wave: list[Row]) -> list[Row]:
        known = [self._known(row) for row in wave]
        order = sorted(range(len(wave)), key=lambda i: len(wave[i].ids) - known[i][1])
        first = len(self.rows)
        self._reserve(first + len(wave), max(len(row.ids) for row in wave))
        for slot, place in enumerate(order, first):
            self._begin(wave[place], slot, *known[place])
        self._how = None
        starts = [known[place][1] for place in order]
        return self._read(model, first, starts)

    def _known(self, row: Row) -> tuple[Any, int]:
        """Who has the beginning of a row, and how much; the last token is always read again, for what follows it."""
        holder, length = self.index.find(row.ids)
        return holder, min(length, len(row.ids) - 1)

    def _begin(self, row: Row, slot: int, holder: Any, length: int) -> None:
        self.rows.append(row)
        if isinstance(holder, Kept):
            self._slots.put_in(slot, holder.piece, length)
            self._pieces.used(holder)
            if holder.rollout_id == row.rollout_id and length == len(holder.computed_ids):
                self._pieces.drop(holder)  # this row will leave all of it behind again
        elif holder is not None:
            self._slots.copy(self.rows.index(holder), slot, length)
        row.num_cached_tokens = length
        self._masks.start(slot, len(row.ids) - 1)
        self._tokens[slot, 0] = row.ids[-1]
        self._positions[slot] = len(row.ids) - 1
        self._set_luck(row, slot)

    def _read(self, model: Any, first: int, starts: list[int]) -> list[Row]:
        """Compute the unknown part of the newest rows' prompts. Those with the least come first."""
        rows = self.rows[first:]
        ready = sum(len(row.ids) - start == 1 for row, start in zip(rows, starts, strict=True))
        ended = list[Row]()
        low = ready
        while low < len(rows):
            high = self._pass_end(rows, starts, low)
            ended += self._read_together(model, first + low, rows[low:high], starts[low:high])
            low = high
        for row in rows:
            self.index.add(row)
        return ended

    def _pass_end(self, rows: list[Row], starts: list[int], low: int) -> int:
        high = low + 1
        while high < len(rows):
            width = len(rows[high].ids) - starts[high]
            if width * (high + 1 - low) > self._limits.max_tokens_per_pass:
                break
            high += 1
        return high

    def _read_together(self, model: Any, slot: int, rows: list[Row], starts: list[int]) -> list[Row]:
        """In parts, when a single row is longer than a pass may be."""
        width = max(len(row.ids) - start for row, start in zip(rows, starts, strict=True))
        most = max(self._limits.max_tokens_per_pass // len(rows), 1)
        logits: Any = None
        for offset in range(0, width, most):
            logits = self._read_part(model, slot, rows, starts, width, offset, min(offset + most, width))
        places = self._all[slot : slot + len(rows)]
        positions = self._positions[slot : slot + len(rows)]
        ids, logprobs = self._draw(logits, places, positions, self._draws(rows))
        self._tokens[slot : slot + len(rows)] = ids
        for place, row in enumerate(rows, slot):
            self._masks.start(place, len(row.ids))
        positions += 1
        return self._added(rows, ids, logprobs)

    def _read_part(
        self, model: Any, slot: int, rows: list[Row], starts: list[int], width: int, low: int, high: int
    ) -> Tensor:
        """Columns `low` to `high` of the right-aligned unknown parts."""
        import torch

        tokens = torch.zeros(len(rows), high - low, dtype=torch.long)
        positions = torch.zeros(len(rows), high - low, dtype=torch.long)
        is_token = torch.zeros(len(rows), high - low, dtype=torch.bool)
        for place, (row, start) in enumerate(zip(rows, starts, strict=True)):
            pad = width - (len(row.ids) - start)
            begin = max(low, pad)
            if begin >= high:
                continue
            ids = row.ids[start + begin - pad : start + high - pad]
            tokens[place, begin - low :] = torch.tensor(ids)
            positions[place, begin - low :] = torch.arange(start + begin - pad, start + high - pad)
            is_token[place, begin - low :] = True
            self.num_read_tokens += len(ids)
        length = int(positions.max()) + 1
        where, positions = is_token.nonzero(as_tuple=True), positions.to(self._device)
        where = (where[0].to(self._device), where[1].to(self._device))
        self._slots.reading(slot, slot + len(rows), length)
        self._slots.writing_some(where[0], positions[where], where)
        mask = self._masks.block(positions, length)
        return self._compute(model, tokens.to(self._device), positions, mask)

    def _compute(self, model: Any, tokens: Tensor, positions: Tensor, mask: Any) -> Tensor:
        """Logits after the last column, (rows, vocabulary)."""
        found = model(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            use_cache=True,
            **{self._cache_word: self._slots.through},
            **self._options,
        )
        return found.logits[:, -1]

    def _draw(self, logits: Tensor, rows: Tensor, positions: Tensor, how: Draws | None = None) -> tuple[Tensor, Tensor]:
        if how is None:
            self._how = how = self._how or self._draws(self.rows)
        luck = self._luck[rows, positions][:, None]
        return draw(logits, luck, how)

    def _draws(self, rows: Sequence[Row]) -> Draws:
        import torch

        def column(values: list[Any], dtype: Any) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=self._device)[:, None]

        heat = [row.temperature or 1.0 for row in rows]
        greedy = [row.temperature == 0 for row in rows]
        is_cut = any(row.is_cut and row.temperature for row in rows)
        return Draws(
            temperature=column(heat, torch.float32) if any(value != 1 for value in heat) else None,
            is_greedy=column(greedy, torch.bool) if any(greedy) else None,
            is_all_greedy=all(greedy),
            top_p=column([row.top_p for row in rows], torch.float32) if is_cut else None,
            top_k=column([row.top_k or 1 << 31 for row in rows], torch.long) if is_cut else None,
        )

    def _added(self, rows: Sequence[Row], ids: Tensor, logprobs: Tensor) -> list[Row]:
        """The one place where a step waits for the device."""
        drawn = zip(rows, ids.flatten().tolist(), logprobs.flatten().tolist(), strict=True)
        return [row for row, id, logprob in drawn if row.add(id, logprob)]

    def _reserve(self, num_rows: int, length: int) -> None:
        import torch

        if num_rows <= self._slots.num_slots and length <= self._slots.columns:
            return
        slots = max(self._slots.num_slots, min(self._limits.max_rows, 1 << (num_rows - 1).bit_length()), num_rows)
        columns = self._slots.columns if length <= self._slots.columns else max(length + BLOCK, length * 5 // 4)
        self._slots.grow(slots, columns)
        slots, columns = self._slots.num_slots, self._slots.columns
        self._masks.grow(slots, columns)
        tokens, positions = self._tokens, self._positions
        self._tokens = torch.zeros(slots, 1, dtype=torch.long, device=self._device)
        self._positions = torch.zeros(slots, dtype=torch.long, device=self._device)
        self._tokens[: len(tokens)], self._positions[: len(positions)] = tokens, positions
        self._all = torch.arange(slots, device=self._device)
        self._luck = torch.zeros(slots, columns, device=self._device)
        for slot, row in enumerate(self.rows):
            self._set_luck(row, slot)

    def _set_luck(self, row: Row, slot: int) -> None:
        """The number for the token after position p stands at p."""
        first = row.num_prompt - 1
        part = row.luck[: self._luck.shape[1] - first]
        self._luck[slot, first : first + len(part)] = part.to(self._device)

    def _move(self, source: int, target: int) -> None:
        row = self.rows[source]
        self.rows[target] = row
        self._slots.copy(source, target, len(row.ids))
        self._masks.copy(source, target)
        self._tokens[target], self._positions[target] = self._tokens[source].clone(), self._positions[source].clone()
        self._luck[target] = self._luck[source]

    def _keep(self, row: Row) -> None:
        length = len(row.ids) - 1
        if length >= BLOCK:
            piece = self._slots.take_out(self.rows.index(row), length)
            self._pieces.keep(Kept(row.computed_ids, piece, row.rollout_id), self.index)


def _first_of_each_beginning(rows: list[Row], index: PrefixIndex) -> tuple[list[Row], list[Row]]:
    """Those to compute now, and those that begin as one of them does, by more than is known already."""
    now, later, coming = list[Row](), list[Row](), PrefixIndex()
    for row in rows:
        if coming.find(row.ids)[1] >= index.find(row.ids)[1] + _WORTH_WAITING:
            later.append(row)
        else:
            now.append(row)
            coming.add(row)
    return now, later


def _options(model: Any) -> dict[str, Any]:
    """Only the last column's logits, where the model can be asked for them."""
    known = inspect.signature(model.forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in known else {}
