"""Weights as LoRA adapters (arXiv 2106.09685) on one frozen base, which may be quantised to 4 bits (arXiv 2305.14314).

All adapters and the versions in use sit side by side in peft's layers; switching sets one attribute of each layer.
peft's own `set_adapter` also walks over all parameters to freeze and unfreeze them: a hundred times slower, and wrong
for us, since adapters learn in turns with sampling. A version that is put away leaves its place in the layers to the
next one of its shape: adding a place walks over the whole model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentlightning.engine.torch.shelf import Version
from agentlightning.errors import ModelError

if TYPE_CHECKING:
    from peft import LoraConfig, LoraModel
    from torch import Tensor
    from torch.nn import Module, Parameter

SETTINGS = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "rank_pattern", "alpha_pattern")
"""What of peft's configuration we keep; anything else must be at its default."""
FOREIGN = ("use_dora", "modules_to_save", "layers_to_transform", "trainable_token_indices", "target_parameters")
"""What makes an adapter more than pairs of matrices on linear layers."""
PREFIX = "base_model.model."
"""Of tensor names in PEFT's files."""


class LoraWeights:
    """Adapters by key on one base model. A key is an internal name: peft allows no dots in it."""

    def __init__(self, base: Module, *, settings: dict[str, Any]) -> None:
        self.base = base
        _keep_readable(base)
        self.settings = settings
        """Of new adapters."""
        self.layers: dict[str, Any] = {}
        """peft's layers by the name of the linear layer that each wraps."""
        self._tuner: LoraModel | None = None
        self._active: str | None = ""
        self._trainable: set[str] = set()
        self._places: dict[str, str] = {}
        """Key → the name of its place in peft's layers."""
        self._free: dict[str, str] = {}
        """Shape (settings, as text) → a place that a version left."""

    def create(self, key: str, *, trainable: bool, version: Version | None = None) -> None:
        """A new adapter, which changes nothing yet, or one with the weights of a version."""
        place = None if trainable or version is None else self._free.pop(_shape(version.settings), None)
        self._places[key] = place or key
        if place is None:
            self._inject(key, _config(version.settings if version else self.settings))
        if version:
            self._assign(key, version)
        if place is not None:
            return
        if trainable:
            self._trainable.add(key)
            for parameter in self.parameters(key):
                parameter.data = parameter.data.float()
        self._free_what_learns()

    def delete(self, key: str) -> None:
        place = self._places.pop(key)
        self._active = None if self._active == key else self._active
        shape = _shape(_settings(self._tuner_of_layers().peft_config[place]))
        if key not in self._trainable and shape not in self._free:
            self._free[shape] = place
            return
        for layer in self.layers.values():
            _set_active(layer, "")  # peft warns when an active one goes
            layer.delete_adapter(place)
        self._trainable.discard(key)
        self._active = None
        self._tuner_of_layers().peft_config.pop(place, None)

    def activate(self, key: str) -> Module:
        """The base model, with this adapter at work (`""`: with none)."""
        if key != self._active:
            for layer in self.layers.values():
                _set_active(layer, self._places[key] if key else "")
            self._active = key
        return self.base

    def parameters(self, key: str) -> list[Parameter]:
        return [parameter for _, parameter in self._named(key)]

    def read(self, key: str) -> Version:
        """A copy of the adapter's weights as they are."""
        tensors = {name: parameter.detach().cpu().clone() for name, parameter in self._named(key)}
        return Version(tensors, _settings(self._tuner_of_layers().peft_config[self._places[key]]))

    def exact(self, key: str) -> Version:
        """The same: adapters are copied in the precision they learn in."""
        return self.read(key)

    def changes_nothing(self, key: str) -> bool:
        """True of an adapter that never learned: all its B matrices are zero."""
        return not any(bool(parameter.any()) for name, parameter in self._named(key) if ".lora_B." in name)

    def merged(self, key: str) -> Module:
        """A plain model with the adapter added in; it shares the memory of what the adapter does not touch."""
        import torch
        from torch import nn

        clone: Any = copy.deepcopy(self.base, {id(p): p for p in self.base.parameters()})
        place = self._places.get(key)
        with torch.no_grad():
            for name, layer in self.layers.items():
                plain = _plain(clone.get_submodule(name).base_layer, _dtype(self.base))
                if place in layer.lora_A:
                    total = plain.weight.float() + layer.get_delta_weight(place).float()
                    plain.weight = nn.Parameter(total.to(plain.weight.dtype), requires_grad=False)
                clone.set_submodule(name, plain)
            for name, module in list(clone.named_modules()):
                clone.set_submodule(name, _plain(module, _dtype(self.base))) if _is_quantised(module) else None
        return _without_traces(clone)

    def write(self, version: Version, folder: Path, *, source: str) -> None:
        """PEFT's layout, as vLLM and peft load it."""
        from safetensors.torch import save_file

        config: Any = _config(version.settings)
        config.base_model_name_or_path, config.task_type, config.inference_mode = source, "CAUSAL_LM", True
        config.save_pretrained(str(folder))
        save_file(version.tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})

    def load(self, folder: Path) -> Version:
        """ModelError for what is not a plain LoRA adapter of this base model."""
        version = read_adapter(folder)
        self._refuse_misfits(version.tensors, folder)
        return version

    def _inject(self, key: str, config: LoraConfig) -> None:
        from peft import LoraModel
        from peft.tuners.lora import LoraLayer

        if self._tuner is None:
            self._tuner = LoraModel(self.base, {key: config}, key)
        else:
            self._tuner.peft_config[key] = config
            self._tuner.active_adapter = key  # peft looks at the active one's config, and that may have been deleted
            self._tuner.inject_adapter(self.base, key)
        self.base.train(self.base.training)  # the new layers too: their dropout would be at work in eval mode
        self.layers = {name: module for name, module in self.base.named_modules() if isinstance(module, LoraLayer)}
        self._active = None  # peft activated something
        self.activate("")

    def _assign(self, key: str, version: Version) -> None:
        ours = dict(self._named(key))
        if ours.keys() != version.tensors.keys():
            odd = sorted(ours.keys() ^ version.tensors.keys())[0]
            raise ModelError(f"the adapter does not fit the base model: {odd} is only in one of them.")
        for name, parameter in ours.items():
            parameter.data = version.tensors[name].to(parameter.device, copy=True)

    def _free_what_learns(self) -> None:
        """peft froze all adapters but the one it added."""
        for layer in self.layers.values():
            for key in layer.lora_A:
                layer.lora_A[key].requires_grad_(key in self._trainable)
                layer.lora_B[key].requires_grad_(key in self._trainable)

    def _named(self, key: str) -> Iterator[tuple[str, Parameter]]:
        place = self._places[key]
        for name, layer in self.layers.items():
            if place in layer.lora_A:
                yield f"{PREFIX}{name}.lora_A.weight", layer.lora_A[place].weight
                yield f"{PREFIX}{name}.lora_B.weight", layer.lora_B[place].weight

    def _tuner_of_layers(self) -> LoraModel:
        if self._tuner is None:
            raise RuntimeError("no adapter was made yet")
        return self._tuner

    def _refuse_misfits(self, tensors: dict[str, Tensor], folder: Path) -> None:
        sizes = {name: _sizes(module) for name, module in self.base.named_modules()}
        for name, tensor in tensors.items():
            inner, _, kind = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".lora_")
            expected = sizes.get(inner) or sizes.get(f"{inner}.base_layer")
            found = tensor.shape[1] if kind == "A" else tensor.shape[0]
            if expected is None or kind not in ("A", "B") or found != expected["AB".index(kind)]:
                has = "has no such linear layer" if expected is None else f"has {expected} inputs and outputs"
                raise ModelError(
                    f"{folder} does not fit the base model: {name} has shape {tuple(tensor.shape)}, the model {has}. "
                    "Load it onto the model it was trained on."
                )


def read_adapter(folder: Path) -> Version:
    """A plain LoRA adapter in PEFT's layout, whatever model it is for. ModelError for any other kind."""
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    _refuse_foreign(config, folder)
    settings = {name: config[name] for name in SETTINGS if name in config}
    return Version(load_file(folder / "adapter_model.safetensors"), _settings(_config(settings)))


def _set_active(layer: Any, key: str) -> None:
    state = vars(layer)  # what the public methods set after a walk over all parameters, and torch after many checks
    state["_disable_adapters"], state["_active_adapter"] = not key, [key] if key else []


def _config(settings: dict[str, Any]) -> LoraConfig:
    from peft import LoraConfig

    return LoraConfig(**settings)


def _settings(config: Any) -> dict[str, Any]:
    """Plain data of a configuration, the same for equal ones."""
    found = {name: getattr(config, name) for name in SETTINGS}
    targets = found["target_modules"]
    return {**found, "target_modules": targets if isinstance(targets, str) else sorted(targets)}


def _shape(settings: dict[str, Any]) -> str:
    """Adapters of the same settings have tensors of the same names and sizes."""
    return json.dumps(settings, sort_keys=True, default=str)


def _refuse_foreign(config: dict[str, Any], folder: Path) -> None:
    odd = [name for name in FOREIGN if config.get(name)]
    odd += [f"bias: {config['bias']}"] if config.get("bias", "none") != "none" else []
    odd += [f"peft_type: {config.get('peft_type')}"] if config.get("peft_type") != "LORA" else []
    if odd:
        raise ModelError(
            f"{folder} is not a plain LoRA adapter ({', '.join(odd)}). Merge it into its model and load that."
        )


def _sizes(module: Module) -> tuple[int, int] | None:
    """Inputs and outputs of a linear layer."""
    if hasattr(module, "in_features"):
        return int(module.in_features), int(module.out_features)  # type: ignore[arg-type]
    is_conv1d = hasattr(module, "nf")  # as in GPT-2
    return (int(module.nx), int(module.nf)) if is_conv1d else None  # type: ignore[arg-type]


def _dtype(model: Module) -> Any:
    return getattr(model, "dtype", None) or next(model.parameters()).dtype


def _is_quantised(module: Module) -> bool:
    return type(module).__name__ == "Linear4bit"


def _keep_readable(base: Module) -> None:
    """On processors with AVX512-BF16, bitsandbytes packs 4-bit weights for inference when they are first used in eval
    mode, for good; gradients through packed weights are wrong. We sample and learn in turns, so nothing is packed."""
    for module in base.modules():
        if _is_quantised(module):
            vars(module)["support_avx512bf16_for_cpu"] = False


def _plain(module: Any, dtype: Any) -> Any:
    """The layer itself, or the linear layer that a 4-bit one stands for."""
    from torch import nn

    if not _is_quantised(module):
        return module
    from bitsandbytes.functional import dequantize_4bit

    plain = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
    full = dequantize_4bit(module.weight.data, module.weight.quant_state).to(dtype)
    plain.weight = nn.Parameter(full.reshape(module.out_features, module.in_features), requires_grad=False)
    plain.bias = module.bias
    return plain


def _without_traces(model: Any) -> Module:
    """What peft and bitsandbytes left on the model would be written into its config."""
    vars(model).pop("peft_config", None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name in ("hf_quantizer", "quantization_method"):
        vars(model).pop(name, None)
    model.is_loaded_in_4bit = model.is_quantized = False
    return model
