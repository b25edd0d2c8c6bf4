"""Learning: samples in, optimiser steps on one adapter's weights out.

An update runs as a generator that rests after every forward and backward pass: whoever drives it may sample in between,
under any weights. Its steps are exact sums: how samples fall into passes changes nothing but rounding.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning, Pair, Update
from agentlightning.engine.torch import dump, losses
from agentlightning.engine.torch.figures import Figures
from agentlightning.engine.torch.items import Group, Item, check_rows, groups, item, minibatches, weigh
from agentlightning.engine.torch.losses.base import Loss, Terms, Tokens
from agentlightning.engine.torch.memory import room
from agentlightning.engine.torch.progress import Progress, begin, read_checkpoint, write_checkpoint
from agentlightning.engine.torch.reading import Reader, reads_whole_rows
from agentlightning.engine.torch.weights import Weights
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

SCORING_TOKENS = 8192
"""Of one forward pass without gradients."""


class Learner:
    """All adapters of one `Weights`. One thread at a time, as the weights themselves."""

    def __init__(self, weights: Weights, *, seed: int = 0, saves_memory: bool = False) -> None:
        """`saves_memory`: gradient checkpointing, a third more computing for far fewer stored activations."""
        self.weights = weights
        self.seed = seed
        self._reader = Reader(weights)
        self._progress: dict[str, Progress] = {}
        base: Any = weights.base
        self._max_context = int(getattr(base.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)
        self._num_vocabulary = int(base.get_input_embeddings().weight.shape[0])
        if saves_memory:
            _recompute_layers(base)

    def update(
        self,
        samples: Sequence[Sample] | Sequence[Pair],
        *,
        adapter: str,
        learning: Learning,
        between: Callable[[], None] | None = None,
    ) -> Update:
        """See `Engine.update`. `between` is called after every pass."""
        passes = self.updating(samples, adapter=adapter, learning=learning)
        while True:
            try:
                next(passes)
            except StopIteration as done:
                return done.value
            if between:
                between()

    def updating(
        self, samples: Sequence[Sample] | Sequence[Pair], *, adapter: str, learning: Learning
    ) -> Generator[None, None, Update]:
        """The same, resting after every pass. Closed before its end, it leaves the last whole step."""
        loss = losses.load(learning.loss, learning.options)
        entries = groups(samples, loss, learning.loss)
        rows = [member for entry in entries for member in entry]
        self._check(rows)
        progress = self._begin(adapter, loss)
        parts = minibatches(entries, learning.num_minibatches, random.Random(f"{self.seed} {progress.num_steps}"))
        figures, before = Figures(), self._reader.num_computed
        try:
            if "proximal" in loss.needs:
                yield from self._keep_proximal(parts[1:], adapter, loss, learning)
            for part in parts:
                yield from self._step(part, adapter, loss, learning, figures)
        finally:
            self._clear(adapter)
        trained, in_rows = sum(len(row.trained) for row in rows), sum(len(row.row.ids) for row in rows)
        metrics = {**figures.result(), "num_tokens": float(trained), "num_row_tokens": float(in_rows)}
        metrics["num_computed_tokens"] = float(self._reader.num_computed - before)
        return Update(metrics=metrics, num_steps=len(parts))

    def score(self, samples: Sequence[Sample], *, weights: str = "", temperature: float = 1.0) -> list[list[float]]:
        """Logprobs of the completion tokens, 0.0 where the mask is 0."""

        def read(part: list[Item]) -> Iterable[Any]:
            return [values.tolist() for values in self._reader.logprobs(part, weights, temperature)]

        return self._by_token(samples, read)

    def values(self, samples: Sequence[Sample], *, adapter: str) -> list[list[float]]:
        """The value head before each completion token, 0.0 where the mask is 0: a critic's view."""

        def read(part: list[Item]) -> Iterable[Any]:
            flat = iter(self._reader.head(part, adapter, "tokens").tolist())
            return [[next(flat) for _ in row.trained] for row in part]

        return self._by_token(samples, read, whole=True)

    def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        """The value head at the end of each sample; `adapter` may be a version too."""
        found = self._read(
            self._rows(samples), lambda part: self._reader.head(part, adapter, "ends").tolist(), whole=True
        )
        return [found[index] for index in range(len(samples))]

    def start_from(self, adapter: str, version: str) -> None:
        """The adapter gets a version's weights and a fresh optimiser."""
        self.weights.start_from(adapter, version)
        self._progress.pop(adapter, None)

    def checkpoint(self, adapter: str, folder: Path) -> None:
        """Everything that learning goes on from, whole or not at all."""
        progress = self._progress.get(adapter) or begin(self.weights.parameters(adapter))
        write_checkpoint(folder, self.weights, adapter, progress, seed=self.seed)

    def restore(self, adapter: str, folder: Path) -> None:
        """Go on from there, exactly: the next update is what it would have been."""
        self._progress[adapter], self.seed = read_checkpoint(folder, self.weights, adapter)

    def _begin(self, adapter: str, loss: Loss) -> Progress:
        self.weights.make(adapter)
        if loss.needs & {"values", "scores"}:
            self.weights.head(adapter)
        if adapter not in self._progress:
            self._progress[adapter] = begin(self.weights.parameters(adapter))
        return self._progress[adapter]

    def _step(
        self, entries: list[Group], adapter: str, loss: Loss, learning: Learning, figures: Figures
    ) -> Generator[None]:
        """One optimiser step."""
        import torch

        weigh(entries, loss)
        progress, parameters = self._progress[adapter], self.weights.parameters(adapter)
        rate = progress.prepare(learning, parameters)
        total = 0.0
        cut = self._reader.passes(entries, learning.max_tokens_per_pass, whole=reads_whole_rows(loss))
        for index, part in enumerate(cut):
            items = [member for entry in part for member in entry]
            with room("learning", _remedy(learning, items)), self._drawing(progress, index):
                share, tokens, terms, entropy = self._pass(items, adapter, loss)
            total += share
            figures.add(tokens, terms, entropy)
            if learning.dump:
                names = {"tokenizer": self.weights.tokenizer, "step": progress.num_steps}
                dump.append(Path(learning.dump), items, tokens, terms, **names)
            yield
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, learning.max_grad_norm))
        if not math.isfinite(norm):
            raise ModelError(_not_finite("gradient", self._blame(entries, adapter, loss)))
        progress.optimiser.step()
        progress.num_steps += 1
        self._clear(adapter)
        figures.of_step(loss=total, grad_norm=norm, learning_rate=rate)

    def _pass(self, items: list[Item], adapter: str, loss: Loss) -> tuple[float, Tokens, Terms, Tensor | None]:
        """Forward and backward; gives its share of the step's loss first."""
        tokens, entropy = self._reader.tokens(items, adapter, loss)
        terms = loss.terms(tokens)
        owners = _owners(items, loss)
        share = (terms.loss * terms.loss.new_tensor([owner.weight for owner in owners])).sum()
        if not math.isfinite(value := float(share.detach())):
            raise ModelError(_not_finite("loss", _culprit(owners, terms)))
        with self.weights.training(adapter):  # recomputed layers, with `saves_memory`
            share.backward()
        return value, tokens, terms, entropy

    def _keep_proximal(self, parts: list[list[Group]], adapter: str, loss: Loss, learning: Learning) -> Generator[None]:
        """Logprobs under the weights the update begins with, for mini-batches that will find others."""
        for cut in self._reader.passes([entry for part in parts for entry in part], learning.max_tokens_per_pass):
            items = [member for entry in cut for member in entry]
            with room("learning", _remedy(learning, items)):
                for member, values in zip(items, self._reader.logprobs(items, adapter, loss.temperature), strict=True):
                    member.proximal = values
            yield

    def _blame(self, entries: list[Group], adapter: str, loss: Loss) -> str:
        """Which sample's gradient is not finite, found by trying them one by one."""
        for entry in entries:
            self._clear(adapter)
            self._pass(entry, adapter, loss)
            gradients = [p.grad for p in self.weights.parameters(adapter) if p.grad is not None]
            if not all(bool(gradient.isfinite().all()) for gradient in gradients):
                return entry[0].name
        return "no single sample, but their sum"

    def _clear(self, adapter: str) -> None:
        for parameter in self.weights.parameters(adapter):
            parameter.grad = None

    @contextmanager
    def _drawing(self, progress: Progress, index: int) -> Generator[None]:
        """Dropout draws by seed, step and pass alone: sampling in between and restoring change nothing."""
        if not self.weights.plan.dropout:
            yield
            return
        import torch

        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(random.Random(f"{self.seed} {progress.num_steps} {index}").getrandbits(63))
            yield

    def _by_token(
        self, samples: Sequence[Sample], read: Callable[[list[Item]], Iterable[Any]], *, whole: bool = False
    ) -> list[list[float]]:
        rows = self._rows(samples)
        found = self._read([row for row in rows if row.trained], read, whole=whole)
        return [_spread(row, found.get(index, [])) for index, row in enumerate(rows)]

    def _read(
        self, rows: list[Item], read: Callable[[list[Item]], Iterable[Any]], *, whole: bool = False
    ) -> dict[int, Any]:
        """What `read` says of each row, by its place in the samples."""
        found: dict[int, Any] = {}
        for cut in self._reader.passes([[row] for row in rows], SCORING_TOKENS, whole=whole):
            part = [row for [row] in cut]
            with room("reading samples", "Give fewer or shorter ones."):
                found.update(zip((row.index for row in part), read(part), strict=True))
        return found

    def _rows(self, samples: Sequence[Sample]) -> list[Item]:
        rows = [item(sample, index) for index, sample in enumerate(samples)]
        self._check(rows)
        return rows

    def _check(self, rows: Iterable[Item]) -> None:
        check_rows(rows, num_vocabulary=self._num_vocabulary, max_context=self._max_context)


def _recompute_layers(model: Any) -> None:
    """Under the name that this transformers has for it."""
    options = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)


def _spread(row: Item, values: list[float]) -> list[float]:
    """Values of trained tokens at their places in the completion."""
    by_place = dict(zip(row.trained, values, strict=True))
    return [by_place.get(place, 0.0) for place in range(len(row.sample.completion_ids))]


def _owners(items: list[Item], loss: Loss) -> list[Item]:
    """The row of each entry of the loss."""
    return items[::2] if loss.kind == "pairs" else [row for row in items for _ in row.trained]


def _culprit(owners: list[Item], terms: Terms) -> str:
    are_finite = terms.loss.detach().isfinite().tolist()
    odd = (owner.name for owner, is_finite in zip(owners, are_finite, strict=True) if not is_finite)
    return next(odd, "no single sample, but their sum")


def _not_finite(what: str, culprit: str) -> str:
    return (
        f"the {what} is not a finite number: {culprit}. The step was not taken; the adapter is as after the last one. "
        "Look at this sample's logprobs and advantages, or lower the learning rate."
    )


def _remedy(learning: Learning, items: list[Item]) -> str:
    longest = max(len(member.row.ids) for member in items)
    return (
        f"Lower max_tokens_per_pass (now {learning.max_tokens_per_pass}; the longest sample here: {longest} tokens), "
        "turn gradient checkpointing on, or use qlora. The step was not taken."
    )
