"""Agents written with the Anthropic SDK: a function that calls it, whatever way it does."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.function import FunctionAdapter, sdk_refusal, uses_package


class AnthropicSDKAdapter(FunctionAdapter):
    """A callable whose module uses the `anthropic` package."""

    name = "anthropic_sdk"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return super().recognises(agent) and uses_package(agent, "anthropic")

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        return sdk_refusal(agent, "anthropic", "client.messages.create(…)") or super().refusal(agent)
