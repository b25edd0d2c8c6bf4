"""Engines hold weights: they sample the answers of a trainable agent and learn from samples."""

from agentlightning.registry import Registry

ENGINES = Registry(
    "engine",
    {
        "torch": "agentlightning.engine.torch.engine:TorchEngine",
        "vllm": "agentlightning.engine.vllm.engine:VllmEngine",
    },
)
