"""A graph of two nodes: one with LangChain's model, one with the bare SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.adapters.case import Case
from tests.contract.adapters.model import CRITIC, WRITER
from tests.servers import FakeOpenAI


class LangGraphCase(Case):
    name, package = "langgraph", "langgraph"
    tool_user = "tools"

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        import openai
        from langchain_core.messages import AIMessage, SystemMessage
        from langchain_core.tools import tool as as_tool
        from langchain_openai import ChatOpenAI
        from langgraph.graph import END, START, MessagesState, StateGraph
        from langgraph.prebuilt import ToolNode, tools_condition

        model: Any = ChatOpenAI(model="m", api_key="k", base_url=server.base_url, streaming=stream)
        client = openai.OpenAI(api_key="k", base_url=server.base_url, max_retries=0)
        tools = [as_tool(tool)] if tool else []

        def writer(state: MessagesState) -> Any:
            bound = model.bind_tools(tools) if tools else model
            return {"messages": [bound.invoke([SystemMessage(WRITER), *state["messages"]])]}

        def critic(state: MessagesState) -> Any:
            texts = [message for message in state["messages"] if message.content]
            given = [{"role": "user", "content": str(message.content)} for message in texts]
            messages: Any = [{"role": "system", "content": CRITIC}, *given]
            if not stream:
                completion = client.chat.completions.create(model="m", messages=messages)
                return {"messages": [AIMessage(completion.choices[0].message.content or "")]}
            pieces = client.chat.completions.create(model="m", messages=messages, stream=True)
            return {"messages": [AIMessage("".join(piece.choices[0].delta.content or "" for piece in pieces))]}

        graph = StateGraph(MessagesState)
        graph.add_node("writer", writer)
        graph.add_node("critic", critic)
        graph.add_edge(START, "writer")
        if tools:
            graph.add_node("tools", ToolNode(tools))
            graph.add_conditional_edges("writer", tools_condition, {"tools": "tools", END: "critic"})
            graph.add_edge("tools", "writer")
        else:
            graph.add_edge("writer", "critic")
        graph.add_edge("critic", END)
        return graph.compile()

    def ask(self, agent: Any, question: str) -> Any:
        return agent.invoke({"messages": [("user", question)]})["messages"][-1].content


class LangGraphAsyncCase(LangGraphCase):
    async def ask(self, agent: Any, question: str) -> Any:
        return (await agent.ainvoke({"messages": [("user", question)]}))["messages"][-1].content


class LangGraphStreamCase(LangGraphCase):
    def ask(self, agent: Any, question: str) -> Any:
        states = list(agent.stream({"messages": [("user", question)]}, stream_mode="values"))
        return states[-1]["messages"][-1].content


CASES = [LangGraphCase(), LangGraphAsyncCase(), LangGraphStreamCase()]
