"""Agents written with the OpenAI SDK (0.28, 1.x to 3.x): a function that calls it, whatever way it does."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from agentlightning.adapters.function import FunctionAdapter, underlying


class OpenAISDKAdapter(FunctionAdapter):
    """A callable whose module uses the `openai` package."""

    name = "openai_sdk"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return super().recognises(agent) and any(_is_openai(value) for value in _globals(agent).values())

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        module = type(agent).__module__ or ""
        if module.split(".")[0] == "openai":
            return (
                f"this is an OpenAI client ({type(agent).__name__}), not an agent. "
                "Wrap the function that uses it: def agent(question): … client.chat.completions.create(…)"
            )
        return super().refusal(agent)


def _globals(agent: Any) -> dict[str, Any]:
    return getattr(underlying(agent), "__globals__", {})


def _is_openai(value: Any) -> bool:
    module = value.__name__ if isinstance(value, ModuleType) else getattr(type(value), "__module__", "") or ""
    origin = getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isfunction(value) else None
    return any(isinstance(name, str) and name.split(".")[0] == "openai" for name in (module, origin))
