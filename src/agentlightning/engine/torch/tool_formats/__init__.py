"""How model families write tool calls. The chat template tells which family it is: it has to render their marks."""

from __future__ import annotations

from collections.abc import Callable

from agentlightning.engine.torch.tool_formats.base import Said, ToolCall, ToolFormat, Tools
from agentlightning.engine.torch.tool_formats.generic import GenericJson
from agentlightning.engine.torch.tool_formats.hermes import Hermes
from agentlightning.engine.torch.tool_formats.llama3 import Llama3
from agentlightning.engine.torch.tool_formats.mistral import Mistral
from agentlightning.errors import ConfigError, near_miss

__all__ = ["Said", "ToolCall", "ToolFormat", "Tools", "detect", "named"]

FORMATS: dict[str, Callable[[], ToolFormat]] = {
    "hermes": Hermes,
    "llama3": Llama3,
    "mistral": Mistral,
    "generic": GenericJson,
}


def detect(template: str, model_type: str = "") -> ToolFormat:
    """By the template's marks, else by the model's type. What we cannot recognise is told of its tools in words."""
    if "tools" not in template:
        return GenericJson()
    if "[TOOL_CALLS]" in template:
        return Mistral(is_named="[ARGS]" in template)
    if "<tool_call>" in template:
        return Hermes()
    if "<|python_tag|>" in template or "ipython" in template or model_type.startswith("llama"):
        return Llama3()
    if model_type.startswith(("mistral", "ministral")):
        return Mistral()
    return Hermes() if model_type.startswith("qwen") else GenericJson()


def named(name: str) -> ToolFormat:
    """The format of a name in a configuration."""
    if name not in FORMATS:
        raise ConfigError(f"unknown tool format {name!r}.{near_miss(name, FORMATS)} There are: {', '.join(FORMATS)}.")
    return FORMATS[name]()
