"""Rows that begin alike: what they share is computed once, forward and backward.

The rollouts of a group begin with one prompt, and agents of one team with one instruction. A pass then goes in two
parts: the distinct beginnings, and what follows each in its rows, which reads the keys and values of the first part.
Gradients flow back through these, so loss and gradient are those of whole rows; only the computing is less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch.cache import attention_of, cache_word, layout_of
from agentlightning.engine.torch.prefixes import shared_length
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_SHORT = 8
"""Tokens in common that are not worth looking at."""


@dataclass
class Beginning:
    """Rows with a common beginning."""

    ids: list[int]
    rows: list[int]

    @property
    def num_saved(self) -> int:
        return len(self.ids) * (len(self.rows) - 1)


@dataclass(frozen=True)
class Start:
    """The first part of a pass."""

    input_ids: Tensor
    """(beginnings, longest), padded on the right."""
    owners: Tensor
    """Of each row of the second part: which beginning it follows."""
    lengths: Tensor
    """Of each row of the second part: how many tokens it follows; 0: it shares nothing."""


def beginnings(known: Sequence[list[int]]) -> list[Beginning]:
    """`known`: of each row, what may be shared. Every row is in one of them; with itself alone, if nothing is saved.

    Rows that begin alike stand side by side when sorted; neighbours are joined while that saves more than it loses.
    """
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, ids in enumerate(known):
        alike[tuple(ids)].append(row)
    found: list[Beginning] = []
    for ids, rows in sorted(alike.items()):
        own = Beginning(list(ids), rows)
        both = _joined(found[-1], own) if found else None
        if both is not None:
            found[-1] = both
        else:
            found.append(own)
    return found


def shared_lengths(known: Sequence[list[int]]) -> list[int]:
    """Of each row: how many of its first tokens it has in common with its neighbours."""
    found = [0] * len(known)
    for beginning in beginnings(known):
        for row in beginning.rows:
            found[row] = len(beginning.ids) if len(beginning.rows) > 1 else 0
    return found


def can_share(model: Any) -> bool:
    """Whether every layer is full attention that takes our masks and positions, and keeps what it computed."""
    is_known = getattr(model.config, "_attn_implementation", "") in ("sdpa", "eager")
    if not is_known or _recomputes(model):
        return False
    try:
        _, window = attention_of(model.config)
        layout_of(model)
    except ModelError:
        return False
    return window is None


def start_of(found: Sequence[Beginning], num_rows: int, device: Any) -> Start:
    """The first part of a pass over rows with these beginnings."""
    import torch

    shared = [one for one in found if len(one.rows) > 1]
    longest = max(len(one.ids) for one in shared)
    owners, lengths = [0] * num_rows, [0] * num_rows
    for number, one in enumerate(shared):
        for row in one.rows:
            owners[row], lengths[row] = number, len(one.ids)

    def flat(values: list[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Start(flat([one.ids + [0] * (longest - len(one.ids)) for one in shared]), flat(owners), flat(lengths))


def read(model: Any, start: Start) -> dict[str, Any]:
    """Compute the beginnings; gives what the model is told for the second part beside its tokens and positions."""
    from transformers import DynamicCache

    seen = DynamicCache(config=model.config)
    word = cache_word(model)
    model.base_model(input_ids=start.input_ids, use_cache=True, **{word: seen})
    for layer in seen.layers:
        kept: Any = layer
        kept.keys, kept.values = (part.index_select(0, start.owners) for part in (kept.keys, kept.values))
    return {word: seen, "use_cache": True}


def mask(start: Start, width: int, dtype: Any) -> Tensor:
    """For `width` tokens of each row: its own beginning, and of the second part what is not later. Shape (rows, 1,
    tokens, columns), added to attention scores."""
    import torch

    longest, device = start.input_ids.shape[1], start.input_ids.device
    before = torch.arange(longest, device=device) < start.lengths[:, None, None]
    since = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    seen = torch.cat([before.expand(-1, width, -1), since.expand(len(start.lengths), -1, -1)], -1)
    hidden = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, torch.finfo(dtype).min)
    return hidden[:, None]


def _recomputes(model: Any) -> bool:
    """Gradient checkpointing keeps no keys and values."""
    is_new = hasattr(type(model), "is_activation_checkpointing")  # the word from transformers 5.24 on
    return bool(getattr(model, "is_activation_checkpointing" if is_new else "is_gradient_checkpointing", False))


def _joined(one: Beginning, other: Beginning) -> Beginning | None:
    """Both as one, where that saves more."""
    length = shared_length(one.ids, other.ids)
    both = Beginning(one.ids[:length], [*one.rows, *other.rows])
    return both if length >= _SHORT and both.num_saved > one.num_saved + other.num_saved else None
