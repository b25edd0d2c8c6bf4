"""Improving instructions: weigh the ideas the runs suggest, pick a few, write them down in plain English.

What is picked varies with the request's text, seed and temperature, and is sometimes wrong.
"""

from __future__ import annotations

import math
import re

from agentlightning.demo.model.advice import advice_from
from agentlightning.demo.model.induction import FORM, LOOKUP, Idea, ideas_from
from agentlightning.demo.model.language import chance, sentences
from agentlightning.demo.model.reader import Instructions, asks_for_label_only, read, read_lookup
from agentlightning.demo.model.reflection import Reflection, Site
from agentlightning.demo.model.request import Answer, Request
from agentlightning.demo.model.routing import read_rule
from agentlightning.demo.model.writing import write_idea

MAX_IDEAS = 3
_DROP = "Drop: "
_ONE = re.compile(r"\b(?:(?:the|only) one (?:cause|rule|idea)|fix only)\b", re.IGNORECASE)
_FOLD_IN = re.compile(r"^.*\b(?:fold|add|include)\b[^:]*\bidea\b[^:]*:\s*", re.IGNORECASE)


def improve(request: Request, reflection: Reflection) -> Answer:
    """A short explanation and the complete new text of every site, each between its tags."""
    dice = _Dice(request)
    target = int(dice("site") * len(reflection.sites))
    site = reflection.sites[target]
    instructions = read(site.text, tuple(reflection.tools))
    ideas = _pick(reflection, instructions, dice)
    lines = [(idea, write_idea(idea, site.text, reflection.tools, dice("wording", idea.key))) for idea in ideas]
    text = _rewrite(site.text, lines, reflection.max_characters, instructions)
    texts = [text if i == target else other.text for i, other in enumerate(reflection.sites)]
    blocks = "\n".join(_block(s, t, len(texts) > 1) for s, t in zip(reflection.sites, texts, strict=True))
    return Answer(f"{_explanation(lines)}\n\n{blocks}")


class _Dice:
    """Numbers that depend on the request's text, its seed and its temperature."""

    def __init__(self, request: Request) -> None:
        self.temperature = 0.7 if request.temperature is None else request.temperature
        self._key = (request.text, request.seed, self.temperature)

    def __call__(self, *what: object) -> float:
        return chance(*self._key, *what)

    def noise(self, what: str) -> float:
        """A Gumbel draw: adding it before sorting samples without replacement, hotter with the temperature."""
        return -math.log(-math.log(min(max(self(what), 1e-9), 1 - 1e-9))) * (0.15 + 0.25 * self.temperature)


def _pick(reflection: Reflection, instructions: Instructions, dice: _Dice) -> list[Idea]:
    """What the focus hands over to be added; else one to three ideas of its own, best first, for different runs."""
    if handed := _handed_over(reflection, instructions):
        return handed
    ideas = [*ideas_from(reflection, instructions), *advice_from(reflection, instructions)]
    tried, tried_bundles = _tried(reflection, instructions, {idea.key for idea in ideas})
    scored = [
        (
            idea.weight * _emphasis(idea, reflection.focus) - 0.5 * (idea.key in tried_bundles) + dice.noise(idea.key),
            idea,
        )
        for idea in ideas
        if idea.key not in tried
    ]
    wanted = 1 if _ONE.search(reflection.focus) else 1 + int(dice("how many") * MAX_IDEAS)
    picked: list[Idea] = []
    for score, idea in sorted(scored, key=lambda pair: (-pair[0], pair[1].key)):
        if len(picked) < wanted and score > 0 and not any(_repeats(idea, other) for other in picked):
            picked.append(idea)
    return picked


def _repeats(idea: Idea, other: Idea) -> bool:
    """Whether it puts right nothing that the other does not, or touches the same sentence."""
    return bool(idea.covers and idea.covers <= other.covers) or bool(idea.drops and idea.drops == other.drops)


def _handed_over(reflection: Reflection, instructions: Instructions) -> list[Idea]:
    """The ideas a focus such as "add this idea: …" spells out, without those the text already follows."""
    if not _FOLD_IN.search(reflection.focus):
        return []
    known = {rule.key for rule in instructions.rules}
    found: list[Idea] = []
    for sentence in sentences(_FOLD_IN.sub("", reflection.focus)):
        key = _key_of(sentence, reflection, instructions)
        rule = read_rule(sentence, instructions.labels)
        wanted = (
            rule.key not in known if rule else {FORM: not instructions.wants_label_only, LOOKUP: True}.get(key, False)
        )
        if wanted and not sentence.startswith(_DROP):
            found.append(Idea(sentence, 1.0))
    return found


def _emphasis(idea: Idea, focus: str) -> float:
    """The focus sentence makes the ideas it speaks of count more."""
    speaks_of = {
        "tool": idea.key == LOOKUP or "fact " in idea.key,
        "form|wording|output": idea.key == FORM,
        "short|simpl|remov|contradict|conflict": bool(idea.drops),
    }
    return 1.6 if any(applies and re.search(word, focus, re.IGNORECASE) for word, applies in speaks_of.items()) else 1.0


def _tried(reflection: Reflection, instructions: Instructions, known: set[str]) -> tuple[set[str], set[str]]:
    """Keys of ideas that were rejected alone (never again), and of those rejected together with others."""
    alone: set[str] = set()
    bundled: set[str] = set()
    for text in reflection.rejected:
        keys = {_key_of(sentence, reflection, instructions) for sentence in sentences(text)} & known
        (alone if len(keys) == 1 else bundled).update(keys)
    return alone, bundled


def _key_of(sentence: str, reflection: Reflection, instructions: Instructions) -> str:
    is_drop = sentence.startswith(_DROP)
    if rule := read_rule(sentence.removeprefix(_DROP), instructions.labels):
        return f"drop {rule.key}" if is_drop else rule.key
    if asks_for_label_only(sentence):
        return FORM
    return LOOKUP if read_lookup(sentence, tuple(reflection.tools)) else sentence


def _rewrite(text: str, lines: list[tuple[Idea, str]], cap: int | None, instructions: Instructions) -> str:
    """The text with sentences dropped, replaced or added. Additions beyond the cap are left out, then old rules go."""
    for kept in range(len(lines), -1, -1):
        changed = _apply(text, lines[:kept])
        if cap is None or len(changed) <= cap:
            return changed
    for rule in sorted(instructions.rules, key=lambda rule: rule.position):
        text = _without(text, rule.line)
        if len(text) <= (cap or len(text)):
            break
    return text


def _apply(text: str, lines: list[tuple[Idea, str]]) -> str:
    for idea, line in lines:
        if idea.drops:
            text = text.replace(idea.drops, line, 1) if line else _without(text, idea.drops)
        else:
            text = f"{text.rstrip()}\n{line}".lstrip("\n")
    return text


def _without(text: str, sentence: str) -> str:
    if "⟦" in sentence:
        return text
    return re.sub(rf"(?:^[-*• ]*)?{re.escape(sentence)}[ ]?\n?", "", text, count=1, flags=re.MULTILINE).rstrip("\n")


def _block(site: Site, text: str, is_one_of_many: bool) -> str:
    named = "".join(f' {key}="{value}"' for key, value in site.attributes.items() if key != "max_characters")
    return f"<instruction{named if is_one_of_many else ''}>\n{text}\n</instruction>"


def _explanation(lines: list[tuple[Idea, str]]) -> str:
    """What was changed, on one line."""
    told = [line or f"{_DROP}{idea.drops}" for idea, line in lines]
    return f"Idea: {' '.join(told) or 'the runs show nothing I would change.'}"
