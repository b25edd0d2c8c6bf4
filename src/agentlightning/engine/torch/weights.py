"""The library of weights: adapters that learn and versions that never change, by name, on one base model.

`using(name)` is the one way to compute with them. Only one weights' name is at work at a time, and switching is cheap,
so sampling under one name may take turns with learning under another, forward pass by forward pass.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from agentlightning.engine.base import VERSION_PREFIX
from agentlightning.engine.torch.folders import settle, whole_folder
from agentlightning.engine.torch.full import FullWeights
from agentlightning.engine.torch.lora import LoraWeights
from agentlightning.engine.torch.quiet import without_bars
from agentlightning.engine.torch.shelf import Shelf, Version
from agentlightning.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch.nn import Linear, Module, Parameter

HEAD = "value_head.weight"
"""The tensor of a value or reward head among a version's; in folders it has a file of its own."""
HEAD_FILE = "value_head.safetensors"


class AdapterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter is."""

    method: Literal["lora", "qlora", "full"] = "lora"
    """`qlora`: LoRA on a base that was loaded in 4 bits. `full`: all parameters, a copy for each adapter."""
    rank: int = 16
    alpha: float = 32
    dropout: float = 0.0
    target_modules: str | list[str] = "all-linear"

    def settings(self) -> dict[str, Any]:
        """In peft's words."""
        own = {"r": self.rank, "lora_alpha": self.alpha, "lora_dropout": self.dropout}
        return {**own, "target_modules": self.target_modules}

    def quantisation(self) -> Any:
        """How to load the base model: transformers' `quantization_config`, None for 16 or 32 bits."""
        if self.method != "qlora":
            return None
        import torch
        from transformers import BitsAndBytesConfig

        compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute,
        )


class Method(Protocol):
    """How weights lie in memory and in files; implemented by `LoraWeights` and `FullWeights`."""

    base: Module

    def create(self, key: str, *, trainable: bool, version: Version | None = None) -> None: ...
    def delete(self, key: str) -> None: ...
    def activate(self, key: str) -> Module: ...
    def parameters(self, key: str) -> list[Parameter]: ...
    def read(self, key: str) -> Version: ...
    def exact(self, key: str) -> Version: ...
    def changes_nothing(self, key: str) -> bool: ...
    def merged(self, key: str) -> Module: ...
    def write(self, version: Version, folder: Path, *, source: str) -> None: ...
    def load(self, folder: Path) -> Version: ...


class Weights:
    """Everything by name: `""`, adapters, versions. One thread at a time."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        plan: AdapterPlan | None = None,
        source: str = "",
        folder: Path | None = None,
        max_memory_bytes: int = 2 << 30,
        max_resident: int = 4,
        seed: int = 0,
    ) -> None:
        """`folder`: where versions go that find no room in memory. `max_resident`: versions kept ready to compute."""
        self.plan = plan or AdapterPlan()
        self.tokenizer = tokenizer
        self.source = source or str(getattr(model.config, "_name_or_path", ""))
        self.seed = seed
        self.base = model.requires_grad_(False).eval()
        is_full = self.plan.method == "full"
        self._method: Method = FullWeights(model) if is_full else LoraWeights(model, settings=self.plan.settings())
        self._shelf = Shelf(folder=folder, max_bytes=max_memory_bytes)
        self._keys: dict[str, str] = {}
        """Adapter name → the method's key."""
        self._num_made = 0
        self._starts: dict[str, str] = {}
        self._heads: dict[str, Linear] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()
        self._max_resident = max_resident
        self._in_use: str | None = None

    @property
    def adapters(self) -> list[str]:
        """Those that were made; others are the base model still."""
        return list(self._keys)

    @contextmanager
    def using(self, name: str) -> Generator[Module]:
        """The causal language model under these weights, in eval mode. ModelError for a version nobody knows."""
        with self._activated(self._key(name)) as model:
            yield _in_mode(model, training=False)

    @contextmanager
    def training(self, adapter: str) -> Generator[Module]:
        """The same in training mode; makes the adapter if need be."""
        self.make(adapter)
        with self._activated(self._keys[adapter]) as model:
            yield _in_mode(model, training=True)

    def make(self, adapter: str) -> None:
        """Now the adapter exists, with the base model's weights if it did not before."""
        if adapter not in self._keys:
            self._replace(adapter, None)
            self._starts[adapter] = ""

    def parameters(self, adapter: str) -> list[Parameter]:
        """What learns: the adapter's parameters, and its head's when it has one."""
        self.make(adapter)
        head = self._heads.get(adapter)
        return [*self._method.parameters(self._keys[adapter]), *(head.parameters() if head else [])]

    def head(self, name: str) -> Module:
        """The value head of an adapter (made when missing: it says 0 until it learned) or of a version."""
        if name in self._heads:
            return self._heads[name]
        if not name.startswith(VERSION_PREFIX):
            self._heads[name] = self._new_head(None)
            return self._heads[name]
        version = self._shelf.get(name)
        if HEAD not in version.tensors:
            raise ModelError(f"weights {name!r} have no value head. Train them with the loss reward_model or value.")
        return self._new_head(version).requires_grad_(False)

    def snapshot(self, adapter: str) -> str:
        """The adapter's weights now, as a version; `""` when it never learned."""
        if adapter not in self._keys or self._is_base(adapter):
            return ""
        return self._shelf.put(self._with_head(adapter, self._method.read(self._keys[adapter])))

    def start_of(self, adapter: str) -> str:
        """The weights from which the adapter's learning began: what DPO and KL terms compare with."""
        return self._starts.get(adapter, "")

    def start_from(self, adapter: str, version: str) -> None:
        """The adapter gets a version's weights (`""`: the base model's); its parameters are new objects."""
        self.put(adapter, self._shelf.get(version) if version else None, start=version)

    def put(self, adapter: str, version: Version | None, *, start: str) -> None:
        """The adapter gets these weights, and counts as having begun from `start`."""
        head = self._new_head(version) if version and HEAD in version.tensors else None
        self._replace(adapter, _without_head(version) if version else None)
        self._starts[adapter] = start
        self._heads.pop(adapter, None)
        if head is not None:
            self._heads[adapter] = head

    def exact(self, adapter: str) -> Version:
        """The adapter's weights with every bit that learning goes on from."""
        self.make(adapter)
        return self._with_head(adapter, self._method.exact(self._keys[adapter]))

    def version(self, name: str) -> Version:
        return self._shelf.get(name)

    def add(self, version: Version) -> str:
        """Make a version known by its name."""
        return self._shelf.put(version)

    def save(self, name: str, folder: Path) -> None:
        """Write a version (see `Engine.save`). The base model has nothing to save: export it."""
        version = self._shelf.get(self._version_name(name))
        with whole_folder(folder) as draft:
            self._method.write(_without_head(version), draft, source=self.source)
            if HEAD in version.tensors:
                from safetensors.torch import save_file

                save_file({HEAD: version.tensors[HEAD]}, draft / HEAD_FILE)
            if self.plan.method == "full" and self.tokenizer is not None:
                self.tokenizer.save_pretrained(str(draft))

    def load(self, folder: Path) -> str:
        """Make a saved version known; gives its name. ModelError when it is broken or does not fit."""
        settle(folder)
        self._refuse_other_method(folder)
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            version = self._method.load(folder)
            head = load_file(folder / HEAD_FILE) if (folder / HEAD_FILE).is_file() else {}
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"{folder} cannot be read as saved weights: {error}") from error
        return self._shelf.put(Version({**version.tensors, **head}, version.settings))

    def export(self, name: str, folder: Path) -> None:
        """Write a whole model with these weights merged in, and the tokenizer."""
        with whole_folder(folder) as draft:
            model: Any = self.merged(name)
            with without_bars():
                model.save_pretrained(str(draft))
            if self.tokenizer is not None:
                self.tokenizer.save_pretrained(str(draft))

    def merged(self, name: str) -> Module:
        """A plain model under these weights, without adapters."""
        if isinstance(self._method, FullWeights) and not name:
            return self.base
        return self._method.merged(self._key(name))

    def close(self) -> None:
        self._shelf.close()

    def _key(self, name: str) -> str:
        if name.startswith(VERSION_PREFIX):
            self._reside(name)
            return name
        return self._keys.get(name, "")

    def _version_name(self, name: str) -> str:
        found = name if name.startswith(VERSION_PREFIX) else self.snapshot(name)
        if not found:
            raise ModelError(f"{name or 'the base model'!r} never learned, so there is nothing to save. Use export.")
        return found

    def _reside(self, name: str) -> None:
        """Versions that are computed with lie beside the base model, the last few of them."""
        if name not in self._resident:
            self._method.create(name, trainable=False, version=_without_head(self._shelf.get(name)))
            self._resident[name] = None
        self._resident.move_to_end(name)
        while len(self._resident) > self._max_resident:
            self._method.delete(self._resident.popitem(last=False)[0])

    def _replace(self, adapter: str, version: Version | None) -> None:
        import torch

        if not adapter or adapter.startswith(VERSION_PREFIX):
            raise ConfigError(f"an adapter cannot be named {adapter!r}: that name means weights that never change.")
        if adapter in self._keys:
            self._method.delete(self._keys.pop(adapter))
        self._num_made += 1
        key = f"adapter_{self._num_made}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # equal seeds, equal adapters, whatever was drawn before
            self._method.create(key, trainable=True, version=version)
        self._keys[adapter] = key

    @contextmanager
    def _activated(self, key: str) -> Generator[Module]:
        if self._in_use is not None and self._in_use != key:
            raise RuntimeError(f"weights {self._in_use!r} are in use; {key!r} must wait for the end of that block")
        before, self._in_use = self._in_use, key
        try:
            yield self._method.activate(key)
        finally:
            self._in_use = before

    def _is_base(self, adapter: str) -> bool:
        head = self._heads.get(adapter)
        return self._method.changes_nothing(self._keys[adapter]) and not (head and bool(head.weight.any()))

    def _with_head(self, adapter: str, version: Version) -> Version:
        head = self._heads.get(adapter)
        extra = {HEAD: head.weight.detach().cpu().clone()} if head else {}
        return Version({**version.tensors, **extra}, version.settings)

    def _new_head(self, version: Version | None) -> Linear:
        import torch
        from torch import nn

        width = self.base.config.get_text_config().hidden_size
        head = nn.Linear(width, 1, bias=False, device=self.base.device, dtype=torch.float32)
        with torch.no_grad():
            head.weight.copy_(version.tensors[HEAD]) if version else head.weight.zero_()
        return head

    def _refuse_other_method(self, folder: Path) -> None:
        is_adapter = (folder / "adapter_config.json").is_file()
        if not is_adapter and not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no saved weights: neither adapter_config.json nor config.json is in it.")
        if is_adapter == (self.plan.method == "full"):
            found = "a LoRA adapter" if is_adapter else "a whole model"
            raise ModelError(
                f"{folder} holds {found}, and this engine's adapters are of method {self.plan.method!r}. "
                "Set the method to match, or use a merged model as the base model."
            )


def _without_head(version: Version) -> Version:
    return Version({name: t for name, t in version.tensors.items() if name != HEAD}, version.settings)


def _in_mode(model: Module, *, training: bool) -> Module:
    return model if model.training == training else model.train(training)
