"""Two agents of `create_agent`, one after the other in a chain; and two executors, each a loop around a prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI


class LangChainCase(Case):
    name, package = "langchain", "langchain"

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        from langchain.agents import create_agent
        from langchain_core.tools import tool as as_tool
        from langchain_openai import ChatOpenAI

        model = ChatOpenAI(model="m", api_key="k", base_url=server.base_url, streaming=stream)
        tools = [as_tool(tool)] if tool else []
        writer = create_agent(model, tools, system_prompt=WRITER, name="writer")
        return writer | create_agent(model, [], system_prompt=CRITIC, name="critic")

    def ask(self, agent: Any, question: str) -> Any:
        return agent.invoke({"messages": [("user", question)]})["messages"][-1].content


class LangChainAsyncCase(LangChainCase):
    """The same chain by its coroutines."""

    async def ask(self, agent: Any, question: str) -> Any:
        return (await agent.ainvoke({"messages": [("user", question)]}))["messages"][-1].content


class AgentExecutorCase(Case):
    """LangChain's older agents, which still run; a name tells one executor from another."""

    name, package = "langchain", "langchain_classic"

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        from langchain_core.runnables import RunnablePassthrough
        from langchain_core.tools import tool as as_tool
        from langchain_openai import ChatOpenAI

        model = ChatOpenAI(model="m", api_key="k", base_url=server.base_url, streaming=stream)
        tools = [as_tool(tool)] if tool else []
        writer = self.executor("writer", WRITER, model, tools, stream)
        critic = self.executor("critic", CRITIC, model, [], stream)
        return RunnablePassthrough.assign(said=writer) | critic

    def executor(self, name: str, instructions: str, model: Any, tools: list[Any], stream: bool) -> Any:
        from langchain_classic.agents import AgentExecutor, create_tool_calling_agent
        from langchain_core.prompts import ChatPromptTemplate

        messages = [("system", instructions), ("user", "{input}"), ("placeholder", "{agent_scratchpad}")]
        prompt = ChatPromptTemplate.from_messages(messages)
        agent = create_tool_calling_agent(model, tools, prompt)
        return AgentExecutor(name=name, agent=agent, tools=tools, stream_runnable=stream)  # type: ignore[arg-type]

    def ask(self, agent: Any, question: str) -> Any:
        return agent.invoke({"input": question})["output"]


class AgentExecutorStreamCase(AgentExecutorCase):
    async def ask(self, agent: Any, question: str) -> Any:
        return [piece async for piece in agent.astream({"input": question})][-1]["output"]


CASES = [LangChainCase(), LangChainAsyncCase(), AgentExecutorCase(), AgentExecutorStreamCase()]
