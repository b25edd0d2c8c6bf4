"""A rule is a condition and a label; a condition holds in a situation or it does not.

A situation is all a model can see of one case: the words of the text, how it sounds, and what tools answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from agentlightning.demo.model.sense import shown_concepts, stems

_SEPARATORS = re.compile(r"[\s_-]+")
_ANSWERED = re.compile(r"""["'](\w+)["']\s*:\s*["']([^"'\n]{1,40})["']""")


class Situation(msgspec.Struct, frozen=True):
    """One case as the model sees it."""

    stems: tuple[str, ...]
    concepts: frozenset[str]
    facts: dict[str, str]
    """Values found in tool results, normalised ("in transit"), each with the field it stood in ("status")."""

    @staticmethod
    def of(text: str, tool_results: Iterable[str] = ()) -> Situation:
        facts = {plain(value): field for result in tool_results for field, value in _ANSWERED.findall(result)}
        return Situation(stems(text), shown_concepts(text), facts)


class Atom(msgspec.Struct, frozen=True):
    """One thing that can be true: words appear, a concept shows, a tool answered a value."""

    kind: Literal["words", "exact", "concept", "fact"]
    value: tuple[str, ...]
    """Stems for words (exact: side by side, in order), otherwise one name."""
    text: str
    """As it is written in a text; for a fact, the field it stands in."""
    is_negated: bool = False

    @property
    def key(self) -> str:
        """Equal for two atoms that mean the same, however they are written."""
        kind = "words" if self.kind == "exact" else self.kind
        return f"{'not ' if self.is_negated else ''}{kind} {' '.join(self.value)}"

    def holds(self, situation: Situation) -> bool:
        return self._is_true(situation) != self.is_negated

    def _is_true(self, situation: Situation) -> bool:
        if self.kind == "concept":
            return self.value[0] in situation.concepts
        if self.kind == "fact":
            return self.value[0] in situation.facts
        if self.kind == "words":
            return set(self.value) <= set(situation.stems)
        size = len(self.value)
        return any(situation.stems[i : i + size] == self.value for i in range(len(situation.stems) - size + 1))


Condition = tuple[tuple[Atom, ...], ...]
"""All of these must hold, each by at least one of its atoms."""


class Rule(msgspec.Struct, frozen=True):
    """When the condition holds, answer the label. An empty condition is the default for what no other rule catches."""

    condition: Condition
    label: str
    line: str
    """The sentence it was read from."""
    position: int = 0
    has_priority: bool = False

    @property
    def key(self) -> str:
        """Equal for two rules that say the same."""
        return " & ".join(sorted("|".join(sorted(a.key for a in some)) for some in self.condition)) + " > " + self.label

    def holds(self, situation: Situation) -> bool:
        return holds(self.condition, situation)

    @property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Sorts stated priority first, then the more specific, then the earlier; defaults last."""
        return (not self.condition, not self.has_priority, -len(self.condition), self.position)


def holds(condition: Condition, situation: Situation) -> bool:
    """Whether every part of the condition is met; an empty one always is."""
    return all(any(atom.holds(situation) for atom in some) for some in condition)


def plain(value: str) -> str:
    """A tool's value as it is compared: "in_transit" is "In transit"."""
    return _SEPARATORS.sub(" ", value).strip(" .\"'").lower()
