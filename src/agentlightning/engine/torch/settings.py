"""An engine from what a configuration says of it: the words of the `engine` section, all optional."""

from __future__ import annotations

import os
from typing import Any, Literal

from agentlightning.engine.torch.engine import TorchEngine
from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.loading import DEVICE_VARIABLE, require_torch
from agentlightning.engine.torch.weights import AdapterPlan
from agentlightning.errors import ConfigError


def torch_engine(
    model: str,
    *,
    method: Literal["lora", "qlora", "full"] = "lora",
    rank: int = 16,
    alpha: float | None = None,
    max_batch: int | None = None,
    gradient_checkpointing: bool = False,
    gpus: int = 0,
    **options: Any,
) -> TorchEngine:
    """`model` is a path or a hub name; `options` are TorchEngine's own (device, dtype, max_context_tokens, …).

    `gpus`: how many the run was told to use. ConfigError when there are fewer, unless it is told to use the CPU.
    """
    if gpus and (options.get("device") or os.environ.get(DEVICE_VARIABLE)) != "cpu":
        check_gpus(gpus)
    return TorchEngine(
        model,
        plan=AdapterPlan(method=method, rank=rank, alpha=alpha if alpha is not None else 2.0 * rank),
        limits=Limits(max_rows=max_batch) if max_batch else None,
        saves_memory=gradient_checkpointing,
        **options,
    )


def check_gpus(wanted: int) -> None:
    """ConfigError when there are fewer, with the count and what to do."""
    found = require_torch().cuda.device_count()
    if found < wanted:
        raise ConfigError(
            f"trainer.gpus asks for {wanted} GPUs, and there are {found}. Lower it, or train on the CPU: "
            f"{DEVICE_VARIABLE}=cpu."
        )
