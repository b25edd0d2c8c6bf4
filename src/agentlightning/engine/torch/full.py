"""Weights as whole models: every adapter is a copy of all parameters. For small models, and where LoRA is too little.

Copies share the structure's code and nothing else; a version's copy shares its memory with the shelf it came from. A
version that is put away leaves its structure to the next one: copying one module by module costs a small model as much
as reading a hundred tokens.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch.quiet import without_bars
from agentlightning.engine.torch.shelf import Version
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


class FullWeights:
    """A model for each key."""

    def __init__(self, base: Module) -> None:
        self.base = base
        self._models: dict[str, Module] = {}
        self._spare: Module | None = None
        """The structure of a version that was put away."""

    def create(self, key: str, *, trainable: bool, version: Version | None = None) -> None:
        """A copy of the base model, or of a version. What learns is kept in 32 bits."""
        import torch

        if version and not trainable and self._spare is not None:
            self._models[key], self._spare = _filled(self._spare, version.tensors), None
            return
        source = version.tensors if version else dict(self.base.named_parameters())
        self._models[key] = _copy(self.base, source, dtype=torch.float32 if trainable else None, trainable=trainable)

    def delete(self, key: str) -> None:
        model = self._models.pop(key)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            self._spare = model

    def activate(self, key: str) -> Module:
        return self._models[key] if key else self.base

    def parameters(self, key: str) -> list[Parameter]:
        return list(self._models[key].parameters())

    def read(self, key: str) -> Version:
        """A copy of the weights as they are, in the base model's precision."""
        base = dict(self.base.named_parameters())
        own = self._models[key].named_parameters()
        return Version({name: p.detach().to("cpu", base[name].dtype, copy=True) for name, p in own}, {"method": "full"})

    def exact(self, key: str) -> Version:
        """The same in the precision it learns in."""
        own = self._models[key].named_parameters()
        return Version({name: p.detach().to("cpu", copy=True) for name, p in own}, {"method": "full"})

    def changes_nothing(self, key: str) -> bool:
        own = dict(self._models[key].named_parameters())
        return all(bool((p == own[name].to(p.dtype)).all()) for name, p in self.base.named_parameters())

    def merged(self, key: str) -> Module:
        return self._models[key]

    def write(self, version: Version, folder: Path, *, source: str) -> None:
        """transformers' layout."""
        model: Any = _copy(self.base, version.tensors, dtype=None, trainable=False)
        with without_bars():
            model.save_pretrained(str(folder))

    def load(self, folder: Path) -> Version:
        """ModelError when the model in the folder is of another shape."""
        from transformers import AutoModelForCausalLM

        with without_bars():
            found = dict(AutoModelForCausalLM.from_pretrained(str(folder), dtype="auto").named_parameters())
        base = dict(self.base.named_parameters())
        for name in sorted(base.keys() | found.keys()):
            shapes = [tuple(side[name].shape) if name in side else None for side in (found, base)]
            if shapes[0] != shapes[1]:
                raise ModelError(
                    f"{folder} does not fit the base model: {name} has shape {shapes[0]}, expected {shapes[1]}. "
                    "Load it onto the model it was trained on."
                )
        return Version({name: p.detach().to(base[name].dtype) for name, p in found.items()}, {"method": "full"})


def _copy(model: Module, tensors: dict[str, Tensor] | dict[str, Parameter], *, dtype: Any, trainable: bool) -> Module:
    """The model with other parameters; tied ones stay tied."""
    from torch import nn

    memo: dict[int, Any] = {}
    for name, parameter in model.named_parameters():
        value = tensors[name].detach().to(parameter.device, dtype or tensors[name].dtype, copy=trainable)
        memo[id(parameter)] = nn.Parameter(value, requires_grad=trainable)
    return copy.deepcopy(model, memo)


def _filled(model: Module, tensors: dict[str, Tensor]) -> Module:
    """The structure, with a version's weights in it instead of those it had; their memory is shared."""
    for name, parameter in model.named_parameters():
        parameter.data = tensors[name].detach().to(parameter.device)
    return model
