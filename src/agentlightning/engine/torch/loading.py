"""A model and its tokenizer, from a folder or a hub name: on which device, in which precision, and why it cannot be.

`AGENTLIGHTNING_DEVICE` (cpu, cuda, cuda:1, mps) decides where nothing else does.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec

from agentlightning.engine.torch.quiet import without_bars
from agentlightning.errors import ConfigError, MissingExtra, ModelError

if TYPE_CHECKING:
    import torch

DEVICE_VARIABLE = "AGENTLIGHTNING_DEVICE"
_DTYPES = ("float32", "bfloat16", "float16")


class Loaded(msgspec.Struct, frozen=True):
    """What the engine stands on."""

    model: Any
    tokenizer: Any
    source: str
    """The path or name it was loaded from."""


def load(
    source: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attention: str | None = None,
    quantisation: Any = None,
    trust_remote_code: bool = False,
) -> Loaded:
    """ModelError for what is no causal language model or is not there, ConfigError for a device that is not there.

    `attention`: transformers' name (`sdpa`, `eager`); flash attention reads no masks per row, so it cannot sample here.
    """
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    options: dict[str, Any] = {"dtype": precision, "trust_remote_code": trust_remote_code}
    if attention:
        options["attn_implementation"] = _checked_attention(attention)
    if quantisation is not None:
        options |= {"quantization_config": quantisation, "device_map": {"": place}}
    model = _model(str(source), options)
    if quantisation is None:
        model = model.to(place)
    return Loaded(model.eval(), load_tokenizer(source, trust_remote_code=trust_remote_code), str(source))


def outline(source: str | Path) -> Loaded:
    """What a model says of itself and its tokenizer, without its weights. ModelError when it is not there."""
    require_torch()
    from transformers import AutoConfig, GenerationConfig

    _refuse_missing_folder(str(source))
    try:
        config = AutoConfig.from_pretrained(str(source))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"there is no model {str(source)!r}: {_first_line(error)}") from error
    try:
        generation = GenerationConfig.from_pretrained(str(source))
    except OSError:  # many models have none, and then say when they end in their configuration
        generation = GenerationConfig.from_model_config(config)
    said = SimpleNamespace(config=config, generation_config=generation)
    return Loaded(said, load_tokenizer(source), str(source))


def choose_device(wanted: str | None = None) -> str:
    """The device asked for, in the call or the environment; else the first GPU; else the CPU."""
    torch = require_torch()
    name = wanted or os.environ.get(DEVICE_VARIABLE) or ""
    if not name:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, index = name.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if kind not in there or (index and not index.isdigit()):
        raise ConfigError(f"device {name!r} is none of cpu, cuda, cuda:N, mps.")
    if int(index or 0) >= there[kind]:
        raise ConfigError(
            f"device {name!r} was asked for, and there are {there[kind]} of that kind here. "
            f"Set device: cpu (or {DEVICE_VARIABLE}=cpu) to run without."
        )
    return name


def choose_dtype(wanted: str | None, device: str) -> torch.dtype:
    """The precision asked for; else 16 bits on GPUs (bfloat16 where it exists), 32 on CPUs."""
    torch = require_torch()
    if wanted is not None:
        if wanted not in _DTYPES:
            raise ConfigError(f"dtype {wanted!r} is none of {', '.join(_DTYPES)}.")
        return getattr(torch, wanted)
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_tokenizer(source: str | Path, *, trust_remote_code: bool = False) -> Any:
    """ModelError when there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source), trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model {str(source)!r} has no tokenizer that can be loaded: {_first_line(error)}\n"
            "    Save the tokenizer into the model's folder (tokenizer.save_pretrained)."
        ) from error


def require_torch() -> Any:
    """The torch module; MissingExtra says how to get it."""
    try:
        import torch

        importlib.import_module("transformers")
    except ImportError as error:
        raise MissingExtra(
            "models with weights of our own need PyTorch:  pip install 'agentlightning[train]'"
        ) from error
    return torch


def _model(source: str, options: dict[str, Any]) -> Any:
    from transformers import AutoModelForCausalLM

    _refuse_missing_folder(source)
    try:
        with without_bars():
            return AutoModelForCausalLM.from_pretrained(source, **options)
    except OSError as error:
        raise ModelError(
            f"there is no model {source!r}: {_first_line(error)}\n"
            "    Give the path of a folder with config.json and weights, or a name from the Hugging Face hub."
        ) from error
    except (ValueError, KeyError) as error:
        raise ModelError(f"{source!r} cannot be loaded as a causal language model: {_first_line(error)}") from error
    except RuntimeError as error:
        raise ModelError(f"{source!r} does not fit on this machine or is damaged: {_first_line(error)}") from error


def _refuse_missing_folder(source: str) -> None:
    """Names that can only be paths are not asked for on the hub."""
    path = Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{source!r} holds no model: there is no config.json in it.")
    if looks_like_path and not path.is_dir():
        raise ModelError(f"there is no folder {source!r}. A model is a folder with config.json, or a hub name.")


def _checked_attention(name: str) -> str:
    if name not in ("sdpa", "eager"):
        raise ConfigError(f"attention {name!r} cannot be used for sampling here; there are sdpa and eager.")
    return name


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
