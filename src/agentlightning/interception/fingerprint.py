"""Who is speaking, read off what the model is told: the last resort where a framework names nobody.

Members of an agent are known by their instructions as written; a call is a member's when these stand in its
instruction text, in order, whatever was filled in between (`{language}`). Nothing is looked at for agents whose
fingerprints were not taken, and a call that could be several members' is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentlightning.data.call import Call, message_text
from agentlightning.errors import DataError
from agentlightning.interception.dialects.base import Dialect, decode_object

MIN_CHARACTERS = 12
"""Shorter instructions may stand anywhere."""

_PLACE = re.compile(r"\{+[^{}]*\}+")
_Pieces = tuple[str, ...]
_known: dict[str, dict[str, _Pieces]] = {}
"""Agent → member → pieces of its instructions."""


def can_be_known(instructions: str) -> bool:
    """Are they long enough to tell a member by?"""
    return sum(map(len, _pieces(instructions))) >= MIN_CHARACTERS


def take_fingerprints(agent: str, instructions: Mapping[str, str]) -> None:
    """Know the members of `agent` by their instructions from now on, those that can be."""
    _known[agent] = {name: _pieces(text) for name, text in instructions.items() if can_be_known(text)}


def speaker_by_prompt(agent: str, dialect: Dialect, body: bytes, path: str) -> str | None:
    """The member of `agent` whose instructions the request holds: exactly one's, or those that hold all the others'."""
    members = _known.get(agent)
    if not members:
        return None
    try:
        text = _instruction_text(dialect.call(decode_object(body), agent, path))
    except DataError:  # no request of this dialect after all
        return None
    sizes = {name: sum(map(len, pieces)) for name, pieces in members.items() if _stand_in(pieces, text)}
    best = [name for name, size in sizes.items() if size == max(sizes.values())]
    return best[0] if len(best) == 1 else None


def _pieces(instructions: str) -> _Pieces:
    return tuple(piece.strip() for piece in _PLACE.split(instructions) if piece.strip())


def _instruction_text(call: Call) -> str:
    """What stands before the talk: system and developer messages, else the first message."""
    told = [message_text(m) for m in call.messages if m.get("role") in ("system", "developer")]
    return "\n".join(told) if told else "".join(message_text(m) for m in call.messages[:1])


def _stand_in(pieces: _Pieces, text: str) -> bool:
    position = 0
    for piece in pieces:
        position = text.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return True
