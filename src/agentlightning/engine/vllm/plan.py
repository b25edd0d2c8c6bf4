"""How a vLLM server is started so that what it samples can be learned from; needs vLLM 0.10.2 or later.

Two of its habits would spoil learning and are switched off: it tells logprobs at temperature 1 whatever was drawn
(`--logprobs-mode`), and it takes top_p and top_k from the model's files where a request names none
(`--generation-config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from agentlightning.errors import ConfigError

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks of adapters a server can be made for."""
MAX_LOADED = 16
"""Versions known to the server at once; those not asked for the longest are unloaded."""
_OURS = ("host", "port", "enable-lora", "logprobs-mode", "served-model-name", "generation-config", "max-lora-rank")


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A server to start, or with `base_url` one to join."""

    model: str
    base_url: str | None = None
    command: str = "vllm"
    """The program; in another environment, by its path."""
    port: int | None = None
    rank: int = 16
    method: Literal["lora", "qlora"] = "lora"
    gpu_memory_share: float = 0.45
    dtype: str | None = None
    max_context_tokens: int | None = None
    max_batch: int | None = None
    seed: int = 0
    options: Mapping[str, Any] = {}
    """More of the server's own flags, without their dashes; true for one that has no value."""

    def arguments(self, port: int) -> list[str]:
        """The command line. ConfigError for a rank or an option that cannot be."""
        self._check()
        flags: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": port,
            "served-model-name": self.model,
            "enable-lora": True,
            "max-lora-rank": min(rank for rank in RANKS if rank >= self.rank),
            "max-loras": 4,
            "max-cpu-loras": MAX_LOADED,
            "logprobs-mode": "processed_logprobs",
            "generation-config": "vllm",
            "gpu-memory-utilization": self.gpu_memory_share,
            "seed": self.seed,
        }
        optional = {
            "max-model-len": self.max_context_tokens,
            "max-num-seqs": self.max_batch,
            "dtype": self.dtype,
            "quantization": "bitsandbytes" if self.method == "qlora" else None,
        }
        flags |= {name: value for name, value in optional.items() if value is not None}
        flags |= {name.replace("_", "-"): value for name, value in self.options.items()}
        return [self.command, "serve", self.model, *_written(flags)]

    def _check(self) -> None:
        if self.rank > RANKS[-1]:
            raise ConfigError(f"vLLM serves adapters up to rank {RANKS[-1]}, and engine.rank is {self.rank}.")
        for name in self.options:
            if name.replace("_", "-") in _OURS:
                raise ConfigError(
                    f"engine.server_options cannot set {name!r}: learning depends on it. It is set by the engine."
                )


def _written(flags: Mapping[str, Any]) -> list[str]:
    words = list[str]()
    for name, value in flags.items():
        if value is not False:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words
