"""Agents written with the OpenAI SDK (0.28, 1.x to 3.x): a function that calls it, whatever way it does."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.function import FunctionAdapter, sdk_refusal, uses_package


class OpenAISDKAdapter(FunctionAdapter):
    """A callable whose module uses the `openai` package."""

    name = "openai_sdk"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return super().recognises(agent) and uses_package(agent, "openai")

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        return sdk_refusal(agent, "openai", "client.chat.completions.create(…)") or super().refusal(agent)
