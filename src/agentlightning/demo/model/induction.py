"""From runs to ideas: which words, feelings and tool results go with which right answer, judged by these runs alone.

An idea is one line to add, or one existing line to drop or narrow. Guesses from few runs are often wrong, as anybody's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product

import msgspec

from agentlightning.demo.model.language import identifiers, names, sentences, words
from agentlightning.demo.model.reader import Instructions
from agentlightning.demo.model.reflection import Reflection, Run
from agentlightning.demo.model.rules import Atom, Condition, Rule, holds
from agentlightning.demo.model.sense import CONCEPTS, is_small, likely_label, stems, topic_of

FORM = "answer with the label only"
LOOKUP = "look things up"
_TELLING_FIELDS = ("status", "state", "result", "error", "reason")
"""What happened to a thing says more than what it is."""


class Idea(msgspec.Struct, frozen=True):
    """Something to change, how promising it looks, and which runs (by index) it would put right."""

    key: str
    """Equal for two ideas that come to the same."""
    weight: float
    covers: frozenset[int] = frozenset()
    rule: Rule | None = None
    """The routing rule to add, if it is one."""
    drops: str = ""
    """The sentence of the instructions to remove or replace, if any."""


def ideas_from(reflection: Reflection, instructions: Instructions) -> list[Idea]:
    """Every idea the runs suggest, unordered."""
    found = [*_form(reflection, instructions), *_lookup(reflection, instructions), *_repairs(reflection, instructions)]
    known = {rule.key for rule in instructions.rules}
    return found + [idea for idea in _routes(reflection, instructions) if idea.key not in known]


def _form(reflection: Reflection, instructions: Instructions) -> Iterator[Idea]:
    wordy = [i for i, run in enumerate(reflection.runs) if len(run.output.split()) > len(run.expected.split()) > 0]
    if wordy and not instructions.wants_label_only:
        yield Idea(FORM, 0.5 + 0.4 * len(wordy), frozenset(wordy))


def _lookup(reflection: Reflection, instructions: Instructions) -> Iterator[Idea]:
    blind = [run for run in reflection.runs if not run.is_passed and not run.used_tool and identifiers(run.text)]
    if reflection.tools and blind and not instructions.lookup:
        yield Idea(LOOKUP, 0.35 * len(blind))


def _repairs(reflection: Reflection, instructions: Instructions) -> Iterator[Idea]:
    """Rules that sent runs the wrong way: drop them, or narrow them by what only the rightly sent runs share."""
    for rule in instructions.rules:
        sent = [run for run in reflection.runs if rule.condition and _first(instructions, run) == rule]
        wrong = [run for run in sent if run.expected and run.expected != rule.label]
        right = [run for run in sent if run.expected == rule.label]
        if wrong and len(wrong) >= len(right):
            yield Idea(f"drop {rule.key}", 0.5 + len(wrong) - 1.5 * len(right), drops=rule.line)
        for atom in _only_in(right, wrong) if wrong and right else ():
            narrower = msgspec.structs.replace(rule, condition=(*rule.condition, (atom,)))
            yield Idea(narrower.key, 0.3 + len(wrong) * 0.7, rule=narrower, drops=rule.line)


def _first(instructions: Instructions, run: Run) -> Rule | None:
    return next((rule for rule in instructions.rules if rule.holds(run.situation)), None)


def _only_in(right: list[Run], wrong: list[Run]) -> list[Atom]:
    shared = set.intersection(*(set(_atoms(run)) for run in right))
    return sorted(
        (atom for atom in shared if not any(atom.holds(run.situation) for run in wrong)), key=lambda atom: atom.key
    )[:3]


def _routes(reflection: Reflection, instructions: Instructions) -> list[Idea]:
    found: dict[str, Idea] = {}
    for run in reflection.runs:
        if run.is_passed or run.is_wrong_form or run.expected not in instructions.labels:
            continue
        for condition in _conditions(run):
            rule = Rule(condition, run.expected, "")
            if rule.key not in found:
                found[rule.key] = _judged(rule, run, reflection.runs, instructions)
    return list(found.values())


def _judged(rule: Rule, example: Run, runs: list[Run], instructions: Instructions) -> Idea:
    """How promising a rule looks: what it would put right, less what it would break, plus how telling it reads."""
    hits = [(i, run) for i, run in enumerate(runs) if run.expected and rule.holds(run.situation)]
    fixed = frozenset(
        i for i, run in hits if run.expected == rule.label and not run.is_passed and not run.is_wrong_form
    )
    kept = sum(run.is_passed and run.expected == rule.label for _, run in hits)
    broken = sum(run.is_passed and run.expected != rule.label for _, run in hits)
    useless = sum(not run.is_passed and run.expected != rule.label for _, run in hits)
    weight = len(fixed) + 0.4 * kept - 1.3 * broken - 0.7 * useless
    return Idea(rule.key, weight + _telling(rule.condition, example, runs, instructions), fixed, rule)


def _telling(condition: Condition, example: Run, runs: list[Run], instructions: Instructions) -> float:
    """Taste: what explains the wrong answer hardly explains the right one alone, but a second condition may."""
    mistaken = [_explains_mistake(some[0], example, instructions) for some in condition]
    least = min(_plausible(some[0], example) for some in condition)
    if len(condition) == 1:
        return least - 0.4 * mistaken[0]
    others = [run for run in runs if run.expected and run.expected != example.expected]
    is_needed = all(any(holds((some,), run.situation) for run in others) for some in condition)
    return least + (0.5 if is_needed or any(mistaken) else -0.1)


def _explains_mistake(atom: Atom, example: Run, instructions: Instructions) -> bool:
    return atom.kind == "exact" and likely_label(atom.value, list(instructions.labels)) == example.answered


def _plausible(atom: Atom, example: Run) -> float:
    """A pair of words says more than one, the main point more than an aside."""
    if atom.kind == "concept":
        return 0.1
    if atom.kind == "fact":
        return 0.0 if atom.text in _TELLING_FIELDS else -0.4
    is_aside = not set(atom.value) <= _main_stems(example.text)
    return (0.35 if len(atom.value) > 1 else 0.0) - 0.5 * is_aside


@lru_cache(maxsize=1024)
def _main_stems(text: str) -> frozenset[str]:
    """The words of what a text is about: its first sentence, and those that name an everyday topic or an identifier."""
    listed = sentences(text)
    main = [line for line in listed[1:] if identifiers(line) or any(map(topic_of, stems(line)))]
    return frozenset(word for line in [*listed[:1], *main] for word in stems(line))


def _conditions(run: Run) -> Iterator[Condition]:
    """Single observations, then pairs that mix kinds (a tool result with a word, two feelings)."""
    atoms = _atoms(run)
    yield from (((atom,),) for atom in atoms)
    seen = [atom for atom in atoms if atom.kind in ("fact", "concept")]
    for first, second in product(seen, atoms):
        if second.kind == "exact" or (second.kind == "concept" and first.key > second.key):
            yield ((first,), (second,))


def _atoms(run: Run) -> list[Atom]:
    return [*_word_atoms(run.text), *_seen_atoms(run)]


def _word_atoms(text: str) -> Iterator[Atom]:
    """Telling words and neighbouring pairs of them, as they are written in the text."""
    written, named = words(text), names(text)
    for size in (1, 2):
        for start in range(len(written) - size + 1):
            phrase = " ".join(written[start : start + size]).lower()
            value = stems(phrase)
            if len(value) == size and not any(map(is_small, value)) and not named & set(phrase.split()):
                yield Atom("exact", value, phrase)


def _seen_atoms(run: Run) -> Iterable[Atom]:
    for name in sorted(run.situation.concepts - {"identifier"}):
        yield Atom("concept", (name,), CONCEPTS[name][0])
    for value, field in sorted(run.situation.facts.items()):
        if not any(character.isdigit() for character in value):
            yield Atom("fact", (value,), field)
