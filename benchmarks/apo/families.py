"""The two families of simulated worlds, and the optimiser that reads and answers requests in each."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.apo import desk_optimizer, optimizer
from benchmarks.apo.desks import Desk, fresh_desk
from benchmarks.apo.worlds import World, fresh_world

from agentlightning.data.resource import Demo

AnyWorld = World | Desk
Found = tuple[dict[str, str], dict[str, list[Demo]], int]
"""What a search hands back: texts by agent, worked examples by agent, calls used."""

FAMILIES: dict[str, Callable[[int], AnyWorld]] = {"messages": fresh_world, "desks": fresh_desk}


def propose(world: AnyWorld, request: str, draw: int, *, heading: str = "") -> str:
    """The simulated optimiser's reply to a request; the instruction to improve is the first below `heading`."""
    if isinstance(world, Desk):
        return desk_optimizer.propose(world, request, draw, heading=heading)
    return optimizer.propose(world, request, draw, heading=heading)


def agent_and_text(world: AnyWorld, request: str) -> tuple[str, str]:
    """Whose instruction a request quotes first, and the instruction."""
    if isinstance(world, Desk):
        agent, lines = desk_optimizer.current_lines(world, request)
        return agent, "\n".join(lines)
    return optimizer.current_text(world, request)
