"""An engine from what a configuration says of it: the words of the `engine` section, all optional."""

from __future__ import annotations

from typing import Any, Literal

from agentlightning.engine.torch.engine import TorchEngine
from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.weights import AdapterPlan


def torch_engine(
    model: str,
    *,
    method: Literal["lora", "qlora", "full"] = "lora",
    rank: int = 16,
    alpha: float | None = None,
    max_batch: int | None = None,
    gradient_checkpointing: bool = False,
    **options: Any,
) -> TorchEngine:
    """`model` is a path or a hub name; `options` are TorchEngine's own (device, dtype, max_context_tokens, …)."""
    return TorchEngine(
        model,
        plan=AdapterPlan(method=method, rank=rank, alpha=alpha if alpha is not None else 2.0 * rank),
        limits=Limits(max_rows=max_batch) if max_batch else None,
        saves_memory=gradient_checkpointing,
        **options,
    )
