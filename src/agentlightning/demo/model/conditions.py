"""The part of a rule after "if": words, feelings and tool results, joined by "and", "or", commas and "not"."""

from __future__ import annotations

import re

from agentlightning.demo.model.rules import Atom, Condition, plain
from agentlightning.demo.model.sense import is_small, named_concepts, stems

_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_HELD = re.compile(r"\x02(\d+)\x03")
_AND = re.compile(r"\s*,?\s*\b(?:and(?: also)?|but|while|plus)\b\s*", re.IGNORECASE)
_QUALIFIER = re.compile(
    r"\s+\b(?:with|whose|where)\b(?= (?:the |an? )?(?:order )?(?:status|state))"
    r"|\s+\bfor\b(?= (?:an? |the )?[\w-]+ orders?\b)",
    re.IGNORECASE,
)
_ADJECTIVE = re.compile(r"^(?:an? |the |some )?([\w-]+) orders?$", re.IGNORECASE)
_OR = re.compile(r"\s*,?\s*\bor\b\s*|\s*[,/]\s*", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:does not|doesn't|do not|don't|did not|never) (?:mention|contain|include|say|have|talk)"
    r"|\bwithout (?:mention|a|an|any|the)\b|\bno (?:mention|order)\b|\b(?:is|are) (?:not|n't)|isn't|\bis no\b",
    re.IGNORECASE,
)
_RESULT = re.compile(
    r"\b(?:status|state|result|look-?up|\w+_\w+|tool|order)\b.*?\b(?:is|was|are|says?|shows?|returns?|returned|gives?"
    r"|equals?|reports?|comes? back|of|has been|reads?)\b\s*:?\s*"
    r"(?:(?:marked|listed|reported|shown|given|as|set to|still|a|an|the)\s+)*(.+)$"
    r"|\bstatus\s*[:=]?\s+(\S.*)$|^(?:\w+ )*?(\S+) (?:order )?status$",
    re.IGNORECASE,
)
_FIELD = re.compile(r"\border (\w+) (?:is|was)\b", re.IGNORECASE)
_SPEAKING = re.compile(r"\b(?:mention|say|ask|contain|want|about|includ|complain)\w*", re.IGNORECASE)


def read_condition(text: str, *, is_list: bool = False, is_negated: bool = False) -> Condition:
    """A condition in conjunctive form; empty when nothing in the text can be checked.

    `is_list`: "apples and pears" names alternatives, as in "apples and pears go to …".
    """
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(next(group for group in match.groups() if group is not None))
        return f"\x02{len(held) - 1}\x03"

    masked = _QUOTED.sub(hold, text)
    parts = [part for side in _QUALIFIER.split(masked) for part in _conjuncts(side, is_list)]
    condition: list[tuple[Atom, ...]] = []
    for part in parts:
        condition += _read_part(part, held, is_negated)
    return tuple((atom,) for some in condition for atom in some) if is_negated else tuple(condition)


def _conjuncts(text: str, is_list: bool) -> list[str]:
    parts = _AND.split(text)
    names_alternatives = is_list or bool(re.search(r",[^,]+,\s*and\b", text))
    if names_alternatives and not any(map(_speaks_of_more_than_words, parts)):
        return [" or ".join(parts)]
    return parts


def _speaks_of_more_than_words(part: str) -> bool:
    return bool(_result_value(part)) or (bool(named_concepts(part)) and not _HELD.search(part))


def _read_part(part: str, held: list[str], is_negated: bool) -> list[tuple[Atom, ...]]:
    """What stands between two "and": alternatives, or several feelings at once ("angry customers who wrote before")."""
    negated = is_negated != bool(_NEGATION.search(part))
    concepts = named_concepts(part)
    pieces = _OR.split(part)
    if len(pieces) == 1 and len(concepts) > 1 and not _HELD.search(part):
        return [(Atom("concept", (name,), part.strip(), negated),) for name in concepts]
    atoms: list[Atom] = []
    follows_result = False
    for piece in pieces:
        value = _result_value(piece) or (piece if follows_result and not _SPEAKING.search(piece) else "")
        follows_result = bool(value)
        if value:
            value = _HELD.sub(lambda match: held[int(match.group(1))], value)
            field = _FIELD.search(piece)
            name = field.group(1) if field else "status"
            atoms += [Atom("fact", (plain(value),), name, negated)] if plain(value) else []
        else:
            atoms += _words(piece, held, negated)
    return [tuple(atoms)] if atoms else []


def _result_value(piece: str) -> str:
    """The value in "the order status is VALUE"; values are short, a longer rest is ordinary words."""
    result = _RESULT.search(piece)
    value = next((group for group in result.groups() if group), "") if result else ""
    value = re.sub(r"^\s*not\s+", "", value)
    return value if len(value.split()) <= 2 and not _SPEAKING.search(value) else ""


def _words(piece: str, held: list[str], negated: bool) -> list[Atom]:
    quoted = [held[int(number)] for number in _HELD.findall(piece)]
    if quoted:
        return [Atom("exact", stems(text), text, negated) for text in quoted if stems(text)]
    concepts = named_concepts(piece)
    if concepts:
        return [Atom("concept", (concepts[0],), piece.strip(), negated)]
    content = tuple(word for word in stems(piece) if not is_small(word))
    atoms = [Atom("words", content, piece.strip(), negated)] if content else []
    if content and (adjective := _ADJECTIVE.match(piece.strip())):
        atoms.append(Atom("fact", (plain(adjective.group(1)),), "status", negated))
    return atoms
