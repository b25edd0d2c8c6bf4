"""The OpenAI Agents SDK: an agent and those it can hand over to, run by its own `Runner`.

Agents hold no state of a run, so one object serves many rollouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentlightning.adapters.base import ObjectAdapter, loaded, text_of_input
from agentlightning.data.structure import Link, Member, Structure


class OpenAIAgentsAdapter(ObjectAdapter):
    """An `agents.Agent`."""

    name = "openai_agents"
    wants = "an Agent of the OpenAI Agents SDK"

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return isinstance(thing, tuple(loaded("agents.agent.Agent")))

    def label(self) -> str:
        return str(self.sample.name)

    def members(self) -> list[str]:
        return list(dict.fromkeys(str(agent.name) for agent in _reachable(self.sample, [])))

    def parts(self) -> list[Any]:
        return [agent for agent in _reachable(self.sample, []) if agent is not self.sample]

    def tools(self) -> Mapping[str, str]:
        found = [tool for agent in _reachable(self.sample, []) for tool in agent.tools]
        return {tool.name: str(getattr(tool, "description", "")) for tool in found}

    def tool_servers(self) -> list[str]:
        servers = [server for agent in _reachable(self.sample, []) for server in agent.mcp_servers]
        return list(dict.fromkeys(f"MCP server {server.name!r}" for server in servers))

    def structure(self) -> Structure:
        agents = list(_reachable(self.sample, []))
        members = [
            Member(
                str(agent.name),
                description=str(agent.handoff_description or ""),
                instructions=agent.instructions if isinstance(agent.instructions, str) else "",
                tools=[str(tool.name) for tool in agent.tools],
            )
            for agent in agents
        ]
        links = [link for agent in agents for link in _links(agent)]
        return Structure(self.label(), self.name, members, links, dict(self.tools()))

    def run(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        return _answer(instance, text_of_input(task_input))


async def _answer(agent: Any, text: str) -> Any:
    from agents import Runner  # pyright: ignore

    return (await Runner.run(agent, text)).final_output


def _reachable(agent: Any, seen: list[Any]) -> Iterator[Any]:
    """The agent, those its handoffs lead to as far as they show them, and those it uses as tools."""
    if any(agent is known for known in seen):
        return
    seen.append(agent)
    yield agent
    for handoff in agent.handoffs:
        target = handoff if OpenAIAgentsAdapter.is_mine(handoff) else _target_of(handoff)
        if target is not None:
            yield from _reachable(target, seen)
    for tool in agent.tools:
        if (used := getattr(tool, "_agent_instance", None)) is not None:
            yield from _reachable(used, seen)


def _links(agent: Any) -> Iterator[Link]:
    for handoff in agent.handoffs:
        target = handoff if OpenAIAgentsAdapter.is_mine(handoff) else _target_of(handoff)
        name = getattr(handoff, "agent_name", None) if target is None else target.name
        if name is not None:
            yield Link(str(agent.name), str(name), "may hand over to")
    for tool in agent.tools:
        if (used := getattr(tool, "_agent_instance", None)) is not None:
            yield Link(str(agent.name), str(used.name), "uses")


def _target_of(handoff: Any) -> Any:
    reference = getattr(handoff, "_agent_ref", None)
    return reference() if callable(reference) else None
