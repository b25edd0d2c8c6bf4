"""From samples to rows: checked against what the loss needs, weighted, and cut into mini-batches of whole rollouts."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Pair
from agentlightning.engine.torch.losses.base import Loss
from agentlightning.engine.torch.packing import Row
from agentlightning.errors import DataError, ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Item:
    """One row on its way through an update."""

    sample: Sample
    row: Row
    trained: list[int]
    """Places of the trained tokens in the sample's completion."""
    rollout: str
    index: int = 0
    """Of the sample among those given."""
    weight: float = 0.0
    """Of each of its tokens (or of its pair) in the loss of a mini-batch."""
    proximal: Tensor | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return name_of(self.sample)

    def of_trained(self, values: Sequence[float]) -> list[float]:
        return [values[place] for place in self.trained]

    def turns(self) -> list[int]:
        """Of each trained token: which answer of this row it belongs to. Without `turns`: unbroken runs of tokens."""
        if self.sample.turns:
            turns = enumerate(self.sample.turns)
            owner = {place: index for index, turn in turns for place in range(turn.start, turn.end)}
            return [owner.get(place, len(self.sample.turns)) for place in self.trained]
        breaks = [1 if place - before > 1 else 0 for before, place in zip(self.trained, self.trained[1:], strict=False)]
        return [0, *(sum(breaks[: index + 1]) for index in range(len(breaks)))] if self.trained else []


Group = list[Item]
"""Rows that go through the model together: one, or the two of a pair."""


def name_of(sample: Sample) -> str:
    return f"sample {sample.segment_id} of rollout {sample.rollout_id or '(none)'!r}, agent {sample.agent!r}"


def item(sample: Sample, index: int = 0) -> Item:
    """A sample as a row. A rollout without an id is one of its own."""
    start = len(sample.prompt_ids)
    trained = [place for place, bit in enumerate(sample.mask) if bit]
    row = Row([*sample.prompt_ids, *sample.completion_ids], [start + place for place in trained])
    return Item(sample, row, trained, sample.rollout_id or f"#{index}", index)


def groups(samples: Sequence[Sample] | Sequence[Pair], loss: Loss, name: str) -> list[Group]:
    """DataError when these are no samples for this loss. Rows without a trained token are left out."""
    if not samples:
        raise DataError(f"nothing to learn from: no samples were given to loss {name!r}.")
    _check_kind(samples, Pair if loss.kind == "pairs" else Sample, name)
    found = [_members(entry, index) for index, entry in enumerate(samples)]
    for one in found:
        for member in one:
            _check(member.sample, loss, name)
    needs_end = "scores" in loss.needs
    kept = [one for one in found if needs_end or all(member.trained for member in one)]
    if not kept:
        raise DataError(f"nothing to learn from: the mask of all {len(samples)} samples is 0 everywhere.")
    return kept


def check_rows(rows: Iterable[Item], *, num_vocabulary: int, max_context: int) -> None:
    """Before the model fails with words nobody understands."""
    for one in rows:
        if not one.row.ids:
            raise DataError(f"{one.name} is empty.")
        if len(one.row.ids) > max_context:
            raise ModelError(
                f"{one.name} has {len(one.row.ids)} tokens, and the model's context holds {max_context}. "
                "Leave the sample out, shorten its history, or use a model with a longer context."
            )
        if max(one.row.ids) >= num_vocabulary or min(one.row.ids) < 0:
            raise DataError(
                f"{one.name} has token id {max(one.row.ids)}, and the vocabulary ends at {num_vocabulary - 1}. "
                "Was it sampled by another model?"
            )


def minibatches(entries: list[Group], number: int, draw: random.Random) -> list[list[Group]]:
    """Shuffled and cut into about equal parts; a rollout is never cut. The order within a part is the given one."""
    rollouts = list(dict.fromkeys(_rollout(entry) for entry in entries))
    draw.shuffle(rollouts)
    size = math.ceil(len(rollouts) / max(1, number))
    part = {rollout: index // size for index, rollout in enumerate(rollouts)}
    cut: list[list[Group]] = [[] for _ in range(math.ceil(len(rollouts) / size))]
    for entry in entries:
        cut[part[_rollout(entry)]].append(entry)
    return cut


def weigh(entries: list[Group], loss: Loss) -> None:
    """Each token's share in the loss of this mini-batch, whatever passes and rows it is spread over."""
    items = [member for entry in entries for member in entry]
    if loss.kind == "pairs":
        for member in items:
            member.weight = 1 / len(entries)
        return
    lengths: Counter[str] = Counter()
    for member in items:
        lengths[member.rollout] += len(member.trained)
    total, number = lengths.total(), len(lengths)
    shares: dict[str, Callable[[str], float]] = {
        "tokens": lambda _: 1 / total,
        "rollout": lambda rollout: 1 / (number * lengths[rollout]),
        "constant": lambda _: 1 / (number * loss.max_tokens),
    }
    for member in items:
        member.weight = shares[loss.normalise](member.rollout)


def _check_kind(samples: Sequence[object], wanted: type, name: str) -> None:
    if odd := next((one for one in samples if not isinstance(one, wanted)), None):
        raise DataError(f"loss {name!r} learns from {wanted.__name__}s, not from {type(odd).__name__}s.")


def _members(entry: Sample | Pair, index: int) -> Group:
    if isinstance(entry, Pair):
        return [item(entry.better, index), item(entry.worse, index)]
    return [item(entry, index)]


def _rollout(entry: Group) -> str:
    return entry[0].rollout


def _check(sample: Sample, loss: Loss, name: str) -> None:
    size = len(sample.completion_ids)
    for what in ("mask", "logprobs", "advantages"):
        values = getattr(sample, what)
        if values is not None and len(values) != size:
            raise DataError(f"{name_of(sample)} has {size} completion tokens and {len(values)} entries of {what}.")
    if not sample.prompt_ids and sample.mask and sample.mask[0]:
        raise DataError(f"{name_of(sample)} has no prompt, so nothing comes before its first trained token.")
    if "old" in loss.needs and sample.logprobs is None:
        raise DataError(
            f"{name_of(sample)} has no logprobs, so loss {name!r} cannot tell how the policy has moved. "
            "Sample through the engine; for answers from elsewhere use cross_entropy or dpo."
        )
    if "advantages" in loss.needs and sample.advantages is None:
        raise DataError(f"{name_of(sample)} has no advantages, which loss {name!r} learns from.")
    for what in ("logprobs", "advantages"):
        values = getattr(sample, what)
        if values is not None and not all(math.isfinite(value) for value in values):
            raise DataError(f"{name_of(sample)} has {what} that are not finite numbers.")
