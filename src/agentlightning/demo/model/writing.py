"""Putting ideas into words: one idea is one line of plain English, in one of several wordings.

What is written can be read back: `routing.read_rule` of a written rule gives a rule that means the same.
"""

from __future__ import annotations

from agentlightning.demo.model.induction import FORM, LOOKUP, Idea
from agentlightning.demo.model.rules import Atom, Rule
from agentlightning.demo.model.sense import CONCEPTS

_NOUNS = ("ticket", "message", "question", "request", "email", "review", "document", "text")
_FORMS = (
    "Answer with the {label} only, one word.",
    "Reply with just the name of the {label}.",
    "Output nothing but the {label}.",
    "Respond with one word: the {label}, without any explanation.",
)
_LOOKUPS = (
    "Use {tool} first when the {noun} has an order number.",
    "Call {tool} before you decide whenever there is an order number.",
    "Always check the order with {tool} first.",
)


def write_idea(idea: Idea, instructions_text: str, tools: list[str], draw: float) -> str:
    """The line to add for an idea; empty for one that only drops a line. `draw` in [0, 1) picks the wording."""
    noun = _first_named(_NOUNS, instructions_text, "message")
    if idea.rule is not None:
        return write_rule(idea.rule, noun, draw)
    if idea.key == FORM:
        label = _first_named(("queue", "label", "category", "class"), instructions_text, "answer")
        return _FORMS[int(draw * len(_FORMS))].format(label=label)
    if idea.key == LOOKUP:
        return _LOOKUPS[int(draw * len(_LOOKUPS))].format(tool=tools[0], noun=noun)
    return "" if idea.drops else idea.key


def _first_named(names: tuple[str, ...], text: str, otherwise: str) -> str:
    return next((name for name in names if name in text.lower()), otherwise)


def write_rule(rule: Rule, noun: str, draw: float) -> str:
    """A rule in plain English, in one of several wordings; reading the line back gives the rule."""
    parts = [" or ".join(_clause(atom, noun) for atom in some) for some in rule.condition]
    joined = " and ".join(parts)
    forms = [
        f"If {joined}, answer {rule.label}.",
        f"When {joined}, choose {rule.label}.",
        f"Answer {rule.label} if {joined}.",
    ]
    first = rule.condition[0][0]
    if (
        len(rule.condition) == 1
        and len(rule.condition[0]) == 1
        and first.kind in ("words", "exact")
        and not first.is_negated
    ):
        words = first.text if first.kind == "exact" else " ".join(first.value)
        forms += [
            f'{noun.capitalize()}s that mention "{words}" go to {rule.label}.',
            f'Route anything about "{words}" to {rule.label}.',
            f'"{words}" → {rule.label}.',
        ]
    return forms[int(draw * len(forms))]


def _clause(atom: Atom, noun: str) -> str:
    if atom.kind == "concept":
        clause = CONCEPTS[atom.value[0]][0]
        return clause.replace(" is ", " is not ").replace(" has ", " has not ") if atom.is_negated else clause
    if atom.kind == "fact":
        return f'the order {atom.text} is {"not " if atom.is_negated else ""}"{atom.value[0]}"'
    words = atom.text if atom.kind == "exact" else " ".join(atom.value)
    return f'the {noun} {"does not mention" if atom.is_negated else "mentions"} "{words}"'
