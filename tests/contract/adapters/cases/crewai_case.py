"""A crew of two: the writer's task, then the critic's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI


class CrewAICase(Case):
    name, package = "crewai", "crewai"

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        from crewai import LLM, Agent, Crew, Task
        from crewai.tools import tool as as_tool

        llm = LLM(model="openai/gpt-4o", api_key="k", base_url=server.base_url, stream=stream)
        tools: list[Any] = [as_tool(tool.__name__)(tool)] if tool else []
        writer = Agent(role="writer", goal="to repeat", backstory=WRITER, llm=llm, tools=tools)
        critic = Agent(role="critic", goal="to repeat", backstory=CRITIC, llm=llm)
        tasks = [
            Task(description="Repeat: {question}", expected_output="the same", agent=writer),
            Task(description="Repeat it again: {question}", expected_output="the same", agent=critic),
        ]
        return Crew(agents=[writer, critic], tasks=tasks)

    def ask(self, agent: Any, question: str) -> Any:
        return agent.kickoff(inputs={"question": question}).raw


class CrewAIAsyncCase(CrewAICase):
    async def ask(self, agent: Any, question: str) -> Any:
        return (await agent.kickoff_async(inputs={"question": question})).raw


CASES = [CrewAICase(), CrewAIAsyncCase()]
