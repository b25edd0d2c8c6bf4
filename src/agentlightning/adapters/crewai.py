"""CrewAI: crews and flows. Both keep state: each rollout gets a copy of the crew, or a new flow of the same class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentlightning.adapters.base import ObjectAdapter, loaded
from agentlightning.adapters.crewai_hooks import role_of
from agentlightning.data.structure import START, Link, Member, Structure, in_turn
from agentlightning.errors import AgentError

MANAGER = "Crew Manager"
"""The role of the manager that CrewAI makes itself, for crews that name a model for it but no agent."""
_CREW, _FLOW = "crewai.crew.Crew", "crewai.flow.flow.Flow"


class CrewAIAdapter(ObjectAdapter):
    """A `Crew`, a `Flow`, or the class of a flow."""

    name = "crewai"
    wants = "a Crew or a Flow of CrewAI"
    entry_points = ("kickoff", "kickoff_async", "akickoff", "kickoff_for_each", "kickoff_for_each_async")

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return isinstance(thing, tuple(loaded(_CREW, _FLOW)))

    @property
    def knows_all_members(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _is_crew(self.sample) and not self.sample.planning  # planning brings an agent of CrewAI's own

    def label(self) -> str:
        name = getattr(self.sample, "name", None)
        return str(name) if name else type(self.sample).__name__.lower()

    def members(self) -> list[str]:
        own = [MANAGER] if self._manager() == MANAGER else []
        return list(dict.fromkeys([*(role_of(agent) for agent in _agents_of(self.sample)), *own]))

    def parts(self) -> list[Any]:
        return _agents_of(self.sample)

    def tools(self) -> Mapping[str, str]:
        tools = [tool for holder in [*_agents_of(self.sample), *_tasks_of(self.sample)] for tool in holder.tools or []]
        return {tool.name: str(tool.description) for tool in tools}

    def tool_servers(self) -> list[str]:
        given = [server for agent in _agents_of(self.sample) for server in getattr(agent, "mcps", None) or []]
        return list(dict.fromkeys(f"MCP server {getattr(server, 'url', None) or server!s:.60}" for server in given))

    def structure(self) -> Structure:
        members = [
            Member(
                role_of(agent),
                description=_written(agent, "goal"),
                instructions=_written(agent, "backstory"),
                tools=[tool.name for tool in agent.tools or []],
            )
            for agent in _agents_of(self.sample)
        ]
        if self._manager() == MANAGER:
            members.append(Member(MANAGER, description="manages the crew; made by CrewAI"))
        kind = f"{self.name} {self.sample.process.value}" if _is_crew(self.sample) else f"{self.name} flow"
        links = self._links() if _is_crew(self.sample) else list(_steps_of(self.sample))
        return Structure(self.label(), kind, members, links, dict(self.tools()))

    def _links(self) -> list[Link]:
        """A manager chooses who does a task; else the tasks' agents speak in the tasks' order."""
        workers = [role_of(agent) for agent in getattr(self.sample, "agents", [])]
        if manager := self._manager():
            return [Link(manager, role, "delegates to") for role in workers]
        return in_turn([role_of(task.agent) for task in _tasks_of(self.sample) if task.agent is not None])

    def _manager(self) -> str | None:
        if not _is_crew(self.sample) or self.sample.process.value != "hierarchical":
            return None
        given = self.sample.manager_agent
        return role_of(given) if given is not None else MANAGER

    def fresh_copy(self) -> Any:
        return self.sample.copy() if _is_crew(self.sample) else type(self.sample)()

    def run(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        inputs = task_input if isinstance(task_input, dict) else {_input_name(instance): task_input}
        result = instance.kickoff(inputs=inputs)
        return getattr(result, "raw", result)


def _steps_of(flow: Any) -> Iterator[Link]:
    """Which method listens to which, as far as CrewAI can tell before it runs."""
    for build in loaded("crewai.flow.build_flow_structure"):
        drawn = build(flow)
        yield from (Link(START, name) for name in drawn["start_methods"])
        yield from (Link(edge["source"], edge["target"]) for edge in drawn["edges"])


def _written(agent: Any, field: str) -> str:
    """A text as its author wrote it, before placeholders were filled."""
    return str(getattr(agent, f"_original_{field}", None) or getattr(agent, field)).strip()


def _is_crew(thing: Any) -> bool:
    return isinstance(thing, tuple(loaded(_CREW)))


def _agents_of(thing: Any) -> list[Any]:
    if not _is_crew(thing):
        return []
    return [agent for agent in [*thing.agents, thing.manager_agent] if agent is not None]


def _tasks_of(thing: Any) -> list[Any]:
    return list(thing.tasks) if _is_crew(thing) else []


def _input_name(thing: Any) -> str:
    """The one input a text can be. AgentError when there are several, or none."""
    names = sorted(thing.fetch_inputs()) if _is_crew(thing) else _state_fields(thing)
    if len(names) == 1:
        return names[0]
    if not names:
        raise AgentError(
            "the crew takes no input: none of its tasks, roles, goals or backstories has a placeholder such as {topic}."
        )
    raise AgentError(
        f"it takes {', '.join(names)}, and a task that is one text does not say which it is. "
        f"Give tasks as mappings: {{'input': {{{names[0]!r}: …}}}}"
    )


def _state_fields(flow: Any) -> list[str]:
    fields: Mapping[str, Any] | None = getattr(type(flow.state), "model_fields", None)
    known = list(fields) if fields is not None else [key for key in flow.state if isinstance(key, str)]
    return [name for name in known if name != "id"] or ["input"]
