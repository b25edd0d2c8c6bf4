"""Agents written with LiteLLM: a function that calls it, whatever provider it calls in turn."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.function import FunctionAdapter, sdk_refusal, uses_package


class LiteLLMAdapter(FunctionAdapter):
    """A callable whose module uses the `litellm` package."""

    name = "litellm"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return super().recognises(agent) and uses_package(agent, "litellm")

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        return sdk_refusal(agent, "litellm", "litellm.completion(…)") or super().refusal(agent)
