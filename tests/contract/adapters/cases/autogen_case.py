"""A team of two assistants, in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI


def client_for(server: FakeOpenAI) -> Any:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    info: Any = {
        "vision": False,
        "function_calling": True,
        "json_output": True,
        "family": "gpt-4o",
        "structured_output": 0,
    }
    return OpenAIChatCompletionClient(model="gpt-4o", api_key="k", base_url=server.base_url, model_info=info)


class AutoGenCase(Case):
    name, package = "autogen", "autogen_agentchat"

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        from autogen_agentchat.agents import AssistantAgent
        from autogen_agentchat.conditions import MaxMessageTermination
        from autogen_agentchat.teams import RoundRobinGroupChat

        tools: list[Any] = [tool] if tool else []
        options: Any = {"model_client": client_for(server), "model_client_stream": stream}
        writer = AssistantAgent("writer", system_message=WRITER, tools=tools, reflect_on_tool_use=True, **options)
        critic = AssistantAgent("critic", system_message=CRITIC, **options)
        return RoundRobinGroupChat([writer, critic], termination_condition=MaxMessageTermination(3), max_turns=2)

    async def ask(self, agent: Any, question: str) -> Any:
        return (await agent.run(task=question)).messages[-1].content


CASES = [AutoGenCase()]
