"""The simulated optimiser of order desks: it reads any request by the wording of orders, grades and rules alone.

What it finds depends on the runs it is shown: it looks for the field that tells failed orders from those that went
well. Half the time (by world) it does not heed what a request asks it to focus on or to leave alone.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import msgspec
from benchmarks.apo.desks import CODES, FILLERS, FORM_WORDINGS, FORMS, PAIR, WORDINGS, Desk, Line, order_of, read_line
from benchmarks.apo.reply_forms import is_strict, reply_in_form

_ORDER = re.compile(r"Order (?:train|validation)-\d+: [\w ,]+\.")
_WRONG = re.compile(r"the (\w+) (?:is wrong|should be (\w+))")
_MISSING = re.compile(r"the word (\w+) is missing")
_VAGUE = "something is wrong here"


class Seen(msgspec.Struct, frozen=True):
    """One order as far as the request shows it."""

    order: dict[str, str]
    is_failed: bool
    entry: str | None = None
    """The entry that is said to be wrong."""
    wanted: dict[str, str] = {}
    """Entry → the code that would have been right, where it is shown."""
    lacks_form: bool = False
    form: str | None = None


def propose(world: Desk, request: str, draw: int, *, heading: str = "") -> str:
    """The reply to a request, read from its text alone; the instruction to improve is the first below `heading`."""
    rng = world.draw("optimiser", request, draw)
    agent, lines = current_lines(world, request.rpartition(heading)[2] if heading else request)
    if rng.random() < world.broken:
        return reply_in_form(request, "", "Be better.") if is_strict(request) else "Idea: better\nHere: be better."
    first, *rest = lines
    kept = _rewritten(world, rest, rng)
    if world.heeds_focus and "Make the text shorter" in request and kept:
        gone = kept.pop(rng.randrange(len(kept)))
        return reply_in_form(request, f"drop: {gone}", "\n".join([first, *kept]))
    rejected = request.split("<rejected>")[1] if world.heeds_focus and "<rejected>" in request else ""
    added = [line for line in _rules(world, agent, request, rng) if line.text not in rejected]
    kept = [said for said in kept if not any(_replaces(line, read_line(said)) for line in added)]
    new = [line.text for line in added] + ([rng.choice(FILLERS)] if rng.random() < world.verbose else [])
    return reply_in_form(request, " ".join(new) or "reword", "\n".join(dict.fromkeys([first, *kept, *new])))


def current_lines(world: Desk, request: str) -> tuple[str, list[str]]:
    """(agent, the lines of its instruction): from its first sentence on, as long as lines look like instructions."""
    places = {agent: request.find(world.first_line(agent)) for agent in world.agents}
    found = {agent: place for agent, place in places.items() if place >= 0}
    if not found:
        return world.agents[0], world.start_of(world.agents[0]).splitlines()
    agent = min(found, key=lambda name: found[name])
    lines = [world.first_line(agent)]
    for line in request[found[agent] :].split("\n")[1:]:
        if read_line(line) is None and line.strip() not in FILLERS:
            break
        lines.append(line.strip())
    return agent, lines


def read_orders(world: Desk, request: str) -> list[Seen]:
    """The runs shown; one that nothing calls right or wrong is an example to learn from, if its answer is right."""
    found = list(_ORDER.finditer(request))
    ends = [*(match.start() for match in found[1:]), len(request)][: len(found)]
    return [_seen(world, match[0], request[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def _seen(world: Desk, given: str, said: str) -> Seen:
    wrong, missing = _WRONG.search(said), _MISSING.search(said)
    is_vague, lacks_form = _VAGUE in said, "the form is wrong" in said or bool(missing)
    is_right = "all of it is right" in said
    is_failed = bool(wrong) or is_vague or lacks_form
    right = world.right(given)
    pairs = set(PAIR.findall(said))
    is_shown = (world.is_labelled or not is_failed) and all(pair in pairs for pair in right.items())
    wanted = right if is_shown else {wrong[1]: wrong[2]} if wrong and wrong[2] else {}
    entry = wrong[1] if wrong and wrong[1] in world.entries else None
    form = missing[1] if missing else None
    return Seen(order_of(given), is_failed or (is_shown and not is_right), entry, wanted, lacks_form, form)


def _rewritten(world: Desk, lines: Sequence[str], rng: random.Random) -> list[str]:
    """The lines a reply keeps: some get lost, and in a rewrite all are worded anew."""
    is_anew = rng.random() < world.rewrite
    kept = [said for said in lines if not rng.random() < world.damage * (1.0 if is_anew else 0.3)]
    return [_anew(said, rng) for said in kept] if is_anew else kept


def _anew(said: str, rng: random.Random) -> str:
    line = read_line(said)
    return said if line is None else _worded(line, rng).text


def _worded(line: Line, rng: random.Random) -> Line:
    return msgspec.structs.replace(line, wording=rng.randrange(len(WORDINGS if line.entry else FORM_WORDINGS)))


def _rules(world: Desk, agent: str, request: str, rng: random.Random) -> list[Line]:
    """One to three rules about what went wrong most, or about anything where the reasons do not say."""
    seen = read_orders(world, request)
    forms = [Line("", form) for form in _forms(world, agent, seen, rng)]
    own = [entry for entry in world.entries if world.owner(entry) == agent]
    blamed = Counter(_blamed(own, seen, rng))
    ranked = [entry for entry, _ in blamed.most_common()]
    if world.heeds_focus and "a failure that is rare" in request:
        ranked.reverse()
    picked = [rng.choice(ranked[:2]) for _ in range(rng.randint(1, 3))] if ranked else []
    rules = {
        (line.entry, line.field, line.value): line for entry in picked for line in [_rule(world, entry, seen, rng)]
    }
    return [_worded(line, rng) for line in [*forms, *rules.values()]]


def _forms(world: Desk, agent: str, seen: Sequence[Seen], rng: random.Random) -> list[str]:
    lacking = [record for record in seen if record.lacks_form]
    told = [record.form for record in lacking if record.form and world.owner(record.form) == agent]
    if told or not lacking:
        return told[:1]
    return [rng.choice(FORMS)] if rng.random() < world.skill else []


def _blamed(own: Sequence[str], seen: Sequence[Seen], rng: random.Random) -> list[str]:
    blamed: list[str] = []
    for record in seen:
        if record.is_failed and record.entry in own:
            blamed.append(str(record.entry))
        elif record.is_failed and record.entry is None and not record.lacks_form and own:
            blamed.append(rng.choice(own))
    return blamed


def _rule(world: Desk, entry: str, seen: Sequence[Seen], rng: random.Random) -> Line:
    """A code for an entry on the condition that best tells failures from successes; or on any, where skill fails."""
    failed = [record for record in seen if record.is_failed and record.entry in (entry, None)]
    failed = failed or [record for record in seen if record.is_failed]
    passed = [record for record in seen if not record.is_failed]
    scores = {pair: 0.0 for record in failed for pair in record.order.items()}
    for record in failed:
        for pair in record.order.items():
            scores[pair] += 1 if record.entry == entry else 0.5
    for record in passed:
        for pair in record.order.items():
            scores[pair] = scores[pair] - 1 if pair in scores else 0.0
    best = max(scores.values())
    wise = [pair for pair, score in scores.items() if score == best]
    field, value = rng.choice(wise if rng.random() < world.skill else list(scores))
    support = [record for record in failed if record.order.get(field) == value]
    return Line(entry, _code(world, entry, (field, value), support, rng), field, value)


def _code(world: Desk, entry: str, condition: tuple[str, str], support: Sequence[Seen], rng: random.Random) -> str:
    shown = [record.wanted[entry] for record in support if entry in record.wanted]
    if shown:
        return Counter(shown).most_common(1)[0][0]
    right = [line.code for line in world.exceptions if (line.entry, line.field, line.value) == (entry, *condition)]
    if right and rng.random() < world.skill * (1 - 0.5 ** len(support)):
        return right[0]
    return rng.choice(CODES)


def _replaces(new: Line, old: Line | None) -> bool:
    return (
        old is not None
        and (new.entry, new.field, new.value) == (old.entry, old.field, old.value)
        and (bool(new.entry) or new.code == old.code)
    )
