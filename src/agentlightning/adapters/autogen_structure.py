"""How AutoGen's teams are built: who is in them, and by what rule the next one speaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentlightning.adapters.autogen_tools import described_tools, runners_of
from agentlightning.adapters.base import loaded
from agentlightning.data.structure import END, Link, Member, in_turn

_TEAMS = "autogen_agentchat.teams"


def member_of(agent: Any) -> Member:
    told = "\n".join(str(message.content) for message in getattr(agent, "_system_messages", []))
    return Member(
        str(agent.name),
        kind=type(agent).__name__,
        description=str(agent.description),
        instructions=told or str(getattr(agent, "_instruction", "") or ""),
        tools=list(described_tools(agent)),
    )


def links_of(thing: Any, *, is_team: bool) -> Iterator[Link]:
    """Who may speak after whom by this agent's or team's own rule."""
    if is_team:
        yield from _team_links(thing, [str(each.name) for each in thing._participants])
        return
    for inner in (getattr(thing, "_team", None), getattr(thing, "_wrapped_agent", None)):
        if inner is not None:
            yield Link(str(thing.name), str(inner.name), "speaks for")
    for runner in runners_of(thing):
        yield Link(str(thing.name), str(runner.name), "uses")
    for handoff in (getattr(thing, "_handoffs", None) or {}).values():
        yield Link(str(thing.name), str(handoff.target), "may hand over to")


def _team_links(team: Any, names: list[str]) -> Iterator[Link]:
    if _is(team, "RoundRobinGroupChat"):
        yield from in_turn(names, is_round=True)
    elif _is(team, "GraphFlow"):
        for name, node in team._graph.nodes.items():
            ways = [(edge.target, f"if {edge.condition}" if edge.condition else "then") for edge in node.edges]
            yield from (Link(name, target, how) for target, how in ways or [(END, "then")])
    elif not _is(team, "Swarm"):  # there the agents' own handoffs say it all
        yield from (Link(str(team.name), name, "chooses") for name in names)


def _is(team: Any, kind: str) -> bool:
    return isinstance(team, tuple(loaded(f"{_TEAMS}.{kind}")))
