"""A writer that hands over to the critic, over chat completions and over Responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI


class OpenAIAgentsCase(Case):
    name, package = "openai_agents", "agents"

    def model(self, client: Any) -> Any:
        from agents import OpenAIChatCompletionsModel

        return OpenAIChatCompletionsModel("m", client)

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        import openai
        from agents import Agent, Runner, function_tool

        model = self.model(openai.AsyncOpenAI(api_key="k", base_url=server.base_url))
        critic = Agent(name="critic", instructions=CRITIC, model=model)
        tools: list[Any] = [function_tool(tool)] if tool else []
        writer = Agent(name="writer", instructions=WRITER, model=model, handoffs=[critic], tools=tools)
        if not stream:
            return writer

        async def duo(question: str) -> str:
            result = Runner.run_streamed(writer, question)
            async for _ in result.stream_events():
                pass
            return result.final_output

        return duo

    async def ask(self, agent: Any, question: str) -> Any:
        return await agent(question)


class OpenAIAgentsResponsesCase(OpenAIAgentsCase):
    dialect = "responses"

    def model(self, client: Any) -> Any:
        from agents import OpenAIResponsesModel

        return OpenAIResponsesModel("m", client)


CASES = [OpenAIAgentsCase(), OpenAIAgentsResponsesCase()]
