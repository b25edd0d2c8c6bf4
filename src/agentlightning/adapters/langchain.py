"""LangChain: chains, chat models, AgentExecutor, and agents made by `create_agent`."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.runnables import RunnableAdapter, is_created_agent, is_graph, is_runnable


class LangChainAdapter(RunnableAdapter):
    """Any runnable. A graph of nodes is left to LangGraph, unless `create_agent` made it."""

    name = "langchain"
    wants = "a LangChain runnable (a chain, a chat model, an agent of create_agent)"

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return is_runnable(agent) and (not is_graph(agent) or is_created_agent(agent))
