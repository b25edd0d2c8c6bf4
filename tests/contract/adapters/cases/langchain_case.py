"""Two agents of `create_agent`, one after the other in a chain."""

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

    name = "langchain"

    async def ask(self, agent: Any, question: str) -> Any:
        return (await agent.ainvoke({"messages": [("user", question)]}))["messages"][-1].content


CASES = [LangChainCase(), LangChainAsyncCase()]
