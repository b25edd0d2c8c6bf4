"""From rows to what a loss sees: which weights say what about which tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from agentlightning.engine.torch import forward
from agentlightning.engine.torch.items import Group, Item
from agentlightning.engine.torch.losses.base import Loss, Tokens
from agentlightning.engine.torch.packing import Batch, batch, branches, passes
from agentlightning.engine.torch.sharing import can_share
from agentlightning.engine.torch.weights import Weights

if TYPE_CHECKING:
    from torch import Tensor

MAX_PADDING = {"cpu": 128, "gpu": 4096}
"""Tokens of padding that cost about as much as one more pass costs to start."""


class Reader:
    """Forward passes over rows, under weights by name."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        base: Any = weights.base
        self._device = base.device
        self._is_packed = "flash" in str(getattr(base.config, "_attn_implementation", ""))
        self._max_padding = MAX_PADDING["cpu" if self._device.type == "cpu" else "gpu"]
        self.num_computed = 0
        """Tokens that went through the model with a gradient, padding counted."""

    def passes(self, entries: Sequence[Group], max_tokens: int, *, whole: bool = False) -> list[list[Group]]:
        """Groups of rows that go through the model together. `whole`: for a value head, which reads whole rows."""
        cut: list[list[int]] | None = None
        if self._can_share and not whole:
            cut = branches([[member.row.inputs for member in entry] for entry in entries], max_tokens)
        if cut is None:
            lengths = [[len(member.row.ids) for member in entry] for entry in entries]
            packed = {"is_packed": self._is_packed}
            cut = passes(lengths, max_tokens=max_tokens, max_padding=self._max_padding, **packed)
        return [[entries[index] for index in part] for part in cut]

    @cached_property
    def _can_share(self) -> bool:
        return not self._is_packed and can_share(self.weights.base)

    def tokens(self, items: list[Item], adapter: str, loss: Loss) -> tuple[Tokens, Tensor | None]:
        """What the loss needs, with gradients, and the entropy for the record."""
        needs = loss.needs
        made = self._batch(items, has_ends="scores" in needs, may_share=not reads_whole_rows(loss))
        self.num_computed += made.num_tokens
        found: dict[str, Tensor | None] = {"rows": made.rows, "turns": self._turns(items)}
        if "reference" in needs:  # before the adapter is at work: one name at a time
            found["reference"] = self._reference(items, adapter, loss)
        for name in ("old", "advantages"):
            found[name] = self._recorded(items, "logprobs" if name == "old" else name) if name in needs else None
        entropy = None
        with self.weights.training(adapter) as model:
            if "logprobs" in needs:
                found["logprobs"], entropy = self._policy(model, made, loss)
            if "scores" in needs:
                found["scores"] = self.weights.head(adapter)(forward.states(model, made, made.ends))[:, 0]
            if "values" in needs:
                found["values"] = self.weights.head(adapter)(forward.states(model, made, made.where))[:, 0]
        if "proximal" in needs:
            found["proximal"] = _proximal(items, found["logprobs"])
        found["entropy"] = entropy if "entropy" in needs else None
        return Tokens(**found), entropy  # type: ignore[arg-type]

    def logprobs(self, items: list[Item], weights: str, temperature: float) -> list[Tensor]:
        """Of the trained tokens of each row, without gradients."""
        import torch

        made = self._batch(items, may_share=True)
        with torch.no_grad(), self.weights.using(weights) as model:
            flat = forward.logprobs(forward.logits(model, made), made.targets, temperature=temperature)
        return list(flat.split([len(member.trained) for member in items]))

    def head(self, items: list[Item], name: str, at: Literal["ends", "tokens"]) -> Tensor:
        """What the value head says, without gradients: once for each row, or before each trained token."""
        import torch

        made = self._batch(items, has_ends=at == "ends")
        with torch.no_grad(), self.weights.using(name) as model:
            found = forward.states(model, made, made.ends if at == "ends" else made.where)
            return self.weights.head(name)(found)[:, 0]

    def _policy(self, model: Any, made: Batch, loss: Loss) -> tuple[Tensor, Tensor | None]:
        import torch

        logits = forward.logits(model, made)
        entropy = None
        if loss.needs & {"old", "entropy"}:
            with torch.set_grad_enabled("entropy" in loss.needs):
                entropy = forward.entropies(logits, temperature=loss.temperature)
        return forward.logprobs(logits, made.targets, temperature=loss.temperature), entropy

    def _reference(self, items: list[Item], adapter: str, loss: Loss) -> Tensor:
        import torch

        name = loss.reference if loss.reference is not None else self.weights.start_of(adapter)
        return torch.cat(self.logprobs(items, name, loss.temperature))

    def _batch(self, items: list[Item], *, has_ends: bool = False, may_share: bool = False) -> Batch:
        price = self._max_padding if may_share and self._can_share else None
        options: dict[str, Any] = {"is_packed": self._is_packed, "has_ends": has_ends, "price": price}
        return batch([member.row for member in items], device=self._device, **options)

    def _recorded(self, items: list[Item], name: str) -> Tensor:
        import torch

        flat = [value for member in items for value in member.of_trained(getattr(member.sample, name))]
        return torch.tensor(flat, dtype=torch.float32, device=self._device)

    def _turns(self, items: list[Item]) -> Tensor:
        """Numbered through all rows."""
        import torch

        flat: list[int] = []
        for member in items:
            own = member.turns()
            start = flat[-1] + 1 if flat else 0
            numbers = {turn: start + index for index, turn in enumerate(dict.fromkeys(own))}
            flat += [numbers[turn] for turn in own]
        return torch.tensor(flat, dtype=torch.long, device=self._device)


def reads_whole_rows(loss: Loss) -> bool:
    """A value head is asked, which the levels of a tree are not computed for."""
    return bool(loss.needs & {"scores", "values"})


def _proximal(items: list[Item], now: Tensor | None) -> Tensor:
    """Kept from before the first step; without one taken since, it is what the model says now."""
    import torch

    assert now is not None
    parts = now.detach().split([len(member.trained) for member in items])
    return torch.cat([p if m.proximal is None else m.proximal for m, p in zip(items, parts, strict=True)])
