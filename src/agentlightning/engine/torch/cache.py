"""Keys and values of many rows in one piece of memory: a slot for each row, every row at a position of its own.

A causal language model writes into it through transformers' `Cache`, whose `update` is all that models ask for when
they are given masks and positions. Slots in use are always the first, so that a step reads plain views of the memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor, dtype

Piece = list[Any]
"""Keys and values of one row, a tensor for each of the cache's stores."""
_STEP = 64
"""Columns are added in multiples of this."""


class Layout(msgspec.Struct, frozen=True):
    """What a model keeps for each token."""

    shapes: list[tuple[int, int]]
    """Heads and width: keys, then values, of each layer."""
    dtype: Any
    device: Any

    @property
    def bytes_per_token(self) -> int:
        return sum(heads * width for heads, width in self.shapes) * self.dtype.itemsize


def cache_word(model: Any) -> str:
    """What the model calls its cache: `cache` from transformers 5.24 on, `past_key_values` before."""
    return "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"


def layout_of(model: Any) -> Layout:
    """Found by asking the model about one token. ModelError for models that keep more than keys and values."""
    import torch
    from transformers import DynamicCache

    with torch.inference_mode():
        seen = DynamicCache(config=model.config)
        first = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        model(input_ids=first, use_cache=True, **{cache_word(model): seen})
    shapes = list[tuple[int, int]]()
    for layer in seen.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is None or values is None or hasattr(layer, "recurrent_states"):
            raise ModelError(
                f"{type(model).__name__} keeps more than keys and values of earlier tokens (a {type(layer).__name__}), "
                "so it cannot be sampled here. Use a model whose layers all are attention, or the vllm engine."
            )
        shapes += [(part.shape[1], part.shape[3]) for part in (keys, values)]
    first: Any = seen.layers[0]
    return Layout(shapes, first.keys.dtype, first.keys.device)


class Slots:
    """The memory. `columns` grow as rows grow; rows of length n use the first n columns of their slot."""

    def __init__(self, layout: Layout, *, num_slots: int, columns: int) -> None:
        self.layout = layout
        self.num_slots = 0
        self.columns = 0
        self.length = 0
        """Columns that the present pass reads."""
        self._kinds = list(dict.fromkeys(layout.shapes))
        self._stores: list[Tensor] = []
        self._views: list[Tensor] = []
        self._target: tuple[Any, ...] = ()
        self._source: tuple[Any, ...] | None = None
        self.through: Any = _through_class()(self)
        """What the model is given as its cache."""
        self.grow(num_slots, columns)

    def grow(self, num_slots: int, columns: int) -> None:
        """Room for that many rows of that length; what is in the slots stays."""
        import torch

        columns = -(-columns // _STEP) * _STEP
        num_slots, columns = max(num_slots, self.num_slots), max(columns, self.columns)
        if (num_slots, columns) == (self.num_slots, self.columns):
            return
        self._views = []
        before, self._stores = self._stores, []
        for heads, width in self._kinds:
            shape = (self.layout.shapes.count((heads, width)), num_slots, heads, columns, width)
            self._stores.append(torch.zeros(shape, dtype=self.layout.dtype, device=self.layout.device))
        for old, new in zip(before, self._stores, strict=False):
            new[:, : self.num_slots, :, : self.columns] = old
        self.num_slots, self.columns = num_slots, columns

    def copy(self, source: int, target: int, length: int) -> None:
        """The first tokens of one row become another's."""
        for store in self._stores:
            store[:, target, :, :length] = store[:, source, :, :length]

    def take_out(self, slot: int, length: int) -> Piece:
        """A copy of a row's first tokens."""
        return [store[:, slot, :, :length].clone() for store in self._stores]

    def put_in(self, slot: int, piece: Piece, length: int) -> None:
        for store, part in zip(self._stores, piece, strict=True):
            store[:, slot, :, :length] = part[:, :, :length]

    def reading(self, first: int, last: int, length: int) -> None:
        """The next pass computes the slots from `first` up to `last`, and reads this many columns."""
        self.length = length
        parts = [store.narrow(1, first, last - first).narrow(3, 0, length).unbind(0) for store in self._stores]
        taken = [iter(part) for part in parts]
        self._views = [next(taken[self._kinds.index(shape)]) for shape in self.layout.shapes]

    def writing_column(self, column: int, width: int) -> None:
        """All rows of the pass write the same columns."""
        self._target, self._source = (slice(None), slice(None), slice(column, column + width)), None

    def writing_each(self, rows: Tensor, columns: Tensor) -> None:
        """Row for row one token, at a column of its own."""
        self._target, self._source = (rows, slice(None), columns), (slice(None), slice(None), 0)

    def writing_some(self, rows: Tensor, columns: Tensor, tokens: tuple[Tensor, Tensor]) -> None:
        """Only some tokens of the pass (their rows and places in it) are written."""
        self._target, self._source = (rows, slice(None), columns), (tokens[0], slice(None), tokens[1])

    def write(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """What transformers calls `update`."""
        all_keys, all_values = self._views[2 * layer], self._views[2 * layer + 1]
        if self._source is None:
            all_keys[self._target], all_values[self._target] = keys, values
        else:
            all_keys[self._target], all_values[self._target] = keys[self._source], values[self._source]
        return all_keys, all_values


@cache
def _through_class() -> Any:
    """The class is made here because torch is imported only when it is needed."""
    from transformers import Cache

    class SlotsThroughTransformers(Cache):
        """transformers' face of `Slots`."""

        def __init__(self, slots: Slots) -> None:
            super().__init__(layers=[])
            self._slots = slots

        def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
            return self._slots.write(key_states, value_states, layer_idx)

        def get_seq_length(self, layer_idx: int = 0) -> int:
            return self._slots.length

    return SlotsThroughTransformers


class Masks:
    """Which columns each slot's next token may see, as numbers added to attention scores; kept up step by step."""

    def __init__(self, kinds: Sequence[str], window: int | None, dtype: dtype, device: Any) -> None:
        """`kinds`: transformers' names of the attention layers; see `attention_of`."""
        import torch

        self._kinds = kinds
        self._window = window
        self._dtype = dtype
        self._hidden = torch.finfo(dtype).min
        self._device = device
        self._seen: Tensor = torch.empty(0, 0, dtype=dtype, device=device)
        self._all = torch.empty(0, dtype=torch.long, device=device)

    def grow(self, num_slots: int, columns: int) -> None:
        import torch

        before = self._seen
        self._seen = torch.full((num_slots, columns), self._hidden, dtype=self._dtype, device=self._device)
        self._seen[: before.shape[0], : before.shape[1]] = before
        self._all = torch.arange(columns, device=self._device)

    def start(self, slot: int, length: int) -> None:
        """The slot holds a row of this length now."""
        self._seen[slot, :length] = 0
        self._seen[slot, length:] = self._hidden

    def copy(self, source: int, target: int) -> None:
        self._seen[target] = self._seen[source]

    def step(self, rows: Tensor, positions: Tensor, length: int) -> Any:
        """For one new token of each of the first slots, at these positions."""
        self._seen[rows, positions] = 0
        seen = self._seen[: rows.shape[0], :length]
        return self._in_kinds(seen[:, None, None, :], positions[:, None, None, None])

    def block(self, positions: Tensor, length: int) -> Any:
        """For new tokens of shape (rows, tokens) at these positions."""
        import torch

        places = positions[:, None, :, None]
        hidden = self._all[:length] > places
        mask = torch.zeros(hidden.shape, dtype=self._dtype, device=self._device).masked_fill_(hidden, self._hidden)
        return self._in_kinds(mask, places)

    def _in_kinds(self, mask: Tensor, places: Tensor) -> Any:
        if self._window is None:
            return mask
        far = self._all[: mask.shape[-1]] <= places - self._window
        near = mask.masked_fill(far, self._hidden)
        return near if len(self._kinds) == 1 else {"full_attention": mask, "sliding_attention": near}


def attention_of(config: Any) -> tuple[list[str], int | None]:
    """The kinds of a model's attention layers, and the width of its sliding windows. ModelError for other kinds."""
    text = config.get_text_config()
    window = getattr(text, "sliding_window", None)
    kinds = sorted(set(getattr(text, "layer_types", None) or ["sliding_attention" if window else "full_attention"]))
    if other := [kind for kind in kinds if kind not in ("full_attention", "sliding_attention")]:
        raise ModelError(
            f"{text.model_type} has layers of kind {', '.join(other)}, which cannot be sampled here. "
            "Use a model whose layers all are attention, or the vllm engine."
        )
    return kinds, window if "sliding_attention" in kinds else None
