"""What may be set of the engine; each engine takes what it needs of it, and refuses the rest."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from agentlightning.trainer.config_sections import PathText, Section


class EngineSection(Section):
    """What holds the weights of `models.policy`: samples the agents' answers, and learns."""

    expected: ClassVar[str] = "the name of an engine, or {name: torch, …}"

    name: str = "torch"
    """`torch` (transformers and peft, on CPU or GPU), `vllm` (samples on a vLLM server), `unsloth` (faster kernels on
    one GPU), `verl` (learning on many GPUs, in verl's environment), or your own `package.module:Class`;
    docs/engines.md."""
    method: Literal["lora", "qlora", "full"] | None = None
    """What is trained: small adapters (`lora`, the default), adapters on 4-bit weights (`qlora`), or all weights."""
    rank: PositiveInt | None = None
    """Of the adapters. 16 when not given."""
    alpha: PositiveFloat | None = None
    """Scale of the adapters. Twice the rank when not given."""
    device: str | None = None
    """`cpu`, `cuda`, `cuda:1`, `mps`. The best there is when not given."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """Of the weights. float32 on CPU and bfloat16 on GPUs when not given."""
    max_context_tokens: PositiveInt | None = None
    """Of prompt and answer together. The model's own limit when not given."""
    max_batch: PositiveInt | None = None
    """Requests sampled at the same time."""
    gradient_checkpointing: bool | None = None
    """Compute activations again instead of keeping them: slower, and much less memory."""
    command: PathText | None = None
    """The program that is started by an engine that starts one: `vllm`, or the path of another environment's."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Of a vLLM server that is started here. A free one when not given."""
    gpu_memory_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the GPU's memory, for a vLLM server that is started here; learning needs the rest. 0.45 when not given."""
    server_options: dict[str, str | int | float | bool] | None = None
    """More flags of `vllm serve`, such as `tensor_parallel_size: 2`."""
    python: PathText | None = None
    """The interpreter of verl's environment, such as `/opt/verl/bin/python`."""
    overrides: dict[str, Any] | None = None
    """verl's own settings by dotted name, put over what was written from this configuration."""
    host: str | None = None
    """The address of this machine at which verl's workers reach it, where they run on several. 127.0.0.1 if not given.
    """

    def options(self) -> dict[str, Any]:
        """Only what was set, as the engine takes it."""
        return self.model_dump(exclude_unset=True, exclude_none=True, exclude={"name"})


def engine_long_form(value: Any) -> Any:
    """An engine's name as the mapping it stands for; anything else as it is."""
    return {"name": value} if isinstance(value, str) else value
