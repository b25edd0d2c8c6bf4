"""The torch engine on a base model that Unsloth loaded: its kernels compute attention, norms and 4-bit weights faster.

Adapters, versions, losses and files stay the torch engine's own, so what was trained either way is interchangeable.
Unsloth patches transformers for the whole process and pins older versions of it: give it an environment of its own. Its
own LoRA kernels are not used.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

from agentlightning.engine.torch.engine import TorchEngine
from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.loading import Loaded, require_torch
from agentlightning.engine.torch.weights import AdapterPlan
from agentlightning.errors import ConfigError, MissingExtra, ModelError

_USUAL_CONTEXT = 8192


def unsloth_engine(
    model: str,
    *,
    method: Literal["lora", "qlora", "full"] = "lora",
    rank: int = 16,
    alpha: float | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    max_context_tokens: int | None = None,
    max_batch: int | None = None,
    gradient_checkpointing: bool = False,
    **options: Any,
) -> TorchEngine:
    """`model` is a path or hub name that Unsloth supports. MissingExtra without unsloth, ConfigError without a GPU."""
    fast = _fast_language_model()
    torch = require_torch()
    try:
        loaded, tokenizer = fast.from_pretrained(
            model_name=model,
            max_seq_length=max_context_tokens or _USUAL_CONTEXT,
            dtype=getattr(torch, dtype) if dtype else None,
            load_in_4bit=method == "qlora",
            full_finetuning=method == "full",
        )
    except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ModelError(
            f"Unsloth cannot load {model!r}: {error}\n    engine: torch loads any causal model."
        ) from error
    return TorchEngine(
        Loaded(loaded, tokenizer, model),
        plan=AdapterPlan(method=method, rank=rank, alpha=alpha if alpha is not None else 2.0 * rank),
        limits=Limits(max_rows=max_batch) if max_batch else None,
        max_context_tokens=max_context_tokens or _USUAL_CONTEXT,
        saves_memory=gradient_checkpointing,
        **options,
    )


def _fast_language_model() -> Any:
    """The GPU is asked for first: importing unsloth patches transformers, which must not happen for nothing."""
    if not require_torch().cuda.is_available():
        raise ConfigError("engine unsloth needs a GPU, and there is none here. Use engine: torch, which runs anywhere.")
    try:
        return importlib.import_module("unsloth").FastLanguageModel
    except ImportError as error:
        raise MissingExtra(
            "engine unsloth needs the unsloth package, which pins older versions of transformers than the ones used "
            "here. In an environment of its own:  pip install agentlightning 'agentlightning[unsloth]'\n"
            f"    ({error})"
        ) from error
