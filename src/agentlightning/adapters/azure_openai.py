"""Agents that call OpenAI models on Azure: a function that uses an `AzureOpenAI` client of the OpenAI SDK."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.function import FunctionAdapter, sdk_refusal, uses_package


class AzureOpenAIAdapter(FunctionAdapter):
    """A callable whose module uses `AzureOpenAI` or `AsyncAzureOpenAI`."""

    name = "azure_openai"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return super().recognises(agent) and uses_package(agent, "openai", ("AzureOpenAI", "AsyncAzureOpenAI"))

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        return sdk_refusal(agent, "openai", "client.chat.completions.create(…)") or super().refusal(agent)
