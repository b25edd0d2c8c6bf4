"""How an agent is built, for people: who is in it, what each is told, which tools there are, who speaks after whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

START, END = "start", "end"
"""What a link may begin and end at, beside members."""
_LINE = 100
"""Characters of instructions that the text form shows."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One who can speak, or a place in a graph."""

    name: str
    kind: str = "agent"
    """In the framework's own word: the class, or `node`."""
    description: str = ""
    """What the others are told of it, where they are."""
    instructions: str = ""
    """What it is told itself, as far as that is known before it runs; `{name}` is filled in later."""
    tools: list[str] = []


class Link(msgspec.Struct, frozen=True):
    """From one member to another (or to a tool, or the end): `then`, `may hand over to`, `uses`, `chooses`, …"""

    source: str
    target: str
    how: str = "then"


class Structure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The agent as a whole. Stands in a run's record, so that readers of a store need no framework."""

    name: str
    kind: str
    """Adapter and, where it says more, the framework's class: `autogen Swarm`."""
    members: list[Member] = []
    links: list[Link] = []
    tools: dict[str, str] = {}
    """Name → description."""

    def text(self) -> str:
        """A few lines: members with what they are told and may use, then who follows whom."""
        return "\n".join(_lines(self))


def in_turn(names: Sequence[str], how: str = "then", *, is_round: bool = False) -> list[Link]:
    """One after the other; `is_round`: and from the last to the first again."""
    following = [*names[1:], *(names[:1] if is_round and len(names) > 1 else [])]
    return [Link(source, target, how) for source, target in zip(names, following, strict=False)]


def _lines(structure: Structure) -> Iterator[str]:
    yield f"{structure.name} ({structure.kind})"
    for member in structure.members:
        told = " ".join((member.instructions or member.description).split())
        shown = f": {told[:_LINE]}{'…' if len(told) > _LINE else ''}" if told else ""
        tools = f" [tools: {', '.join(member.tools)}]" if member.tools else ""
        yield f"  {member.name}{shown}{tools}"
    for link in structure.links:
        arrow = "→" if link.how == "then" else f"({link.how}) →"
        yield f"  {link.source} {arrow} {link.target}"


def plain_structure(structure: Structure) -> dict[str, Any]:
    """As it stands in a record."""
    return msgspec.to_builtins(structure)
