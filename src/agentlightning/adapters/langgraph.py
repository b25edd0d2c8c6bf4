"""LangGraph: compiled graphs. Each node that calls a model is an agent by its own name."""

from __future__ import annotations

from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.adapters.runnables import RunnableAdapter, is_graph
from agentlightning.adapters.watching import missing


class LangGraphAdapter(RunnableAdapter):
    """A compiled graph, of whatever state."""

    name = "langgraph"
    wants = "a compiled LangGraph graph"

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return is_graph(thing)

    def health(self) -> list[str]:
        return [*missing("langchain"), *super().health()]

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        if isinstance(agent, tuple(loaded("langgraph.graph.state.StateGraph"))):
            return "this graph is not compiled yet; wrap graph.compile()"
        return super().refusal(agent)
