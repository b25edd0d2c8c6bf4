"""The simulated optimiser: it reads any request for a better instruction, in whatever form, and writes one.

It knows a world's messages, grades and instructions by their wording alone, so no method's prompt is read better than
another's: a record is the text from one message to the next, wherever the labels "input", "feedback" or tags stand.
Only the reply is written in the form the request asks for. How often it guesses right is the world's, and grows with
the number of failed runs that show the same cause.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import msgspec
from benchmarks.apo.reply_forms import is_strict, reply_in_form
from benchmarks.apo.worlds import ACTIONS, ANSWER, FILLERS, LINE, World

_MESSAGE = re.compile(r"Message (?:train|validation)-\d+ about ([\w ]+)!")
_BLAME = re.compile(r"wrong about the (\w+)")
_RIGHT = "all of it is right"
_WRONG = "something is wrong here"


class Record(msgspec.Struct, frozen=True):
    """One run, as far as the request shows it."""

    words: tuple[str, ...]
    """What the message mentions."""
    blamed: str | None
    is_failed: bool
    is_labelled: bool
    """It shows what the right answer was."""


def propose(world: World, request: str, draw: int, *, heading: str = "") -> str:
    """The reply to a request, read from its text alone; the instruction to improve is the first below `heading`."""
    rng = world.draw("optimiser", request, draw)
    agent, current = current_text(world, request.rpartition(heading)[2] if heading else request)
    lines = current.splitlines()
    rejected = set(LINE.findall(request.split("<rejected>")[1])) if "<rejected>" in request else set()
    if rng.random() < world.broken:
        # A form that cannot be read at all would end MIPROv2; it gets a useless text in its form instead.
        useless = reply_in_form(request, "", "Be better.")
        return useless if is_strict(request) else "Idea: better\nHere is the new text: be better."
    if len(lines) > 1 and rng.random() < world.damage:
        lines.pop(rng.randrange(1, len(lines)))
    added: list[str] = []
    if "Make the text shorter" in request and len(lines) > 1:
        added = [f"drop: {lines.pop(rng.randrange(1, len(lines)))}"]
    else:
        records = read_records(world, request)
        for topic in _chosen(_blamed(world, agent, records, rng), request, rng):
            word = _cause(world, topic, records, rng)
            lines = [line for line in lines if f"mentions {word}," not in line]
            support = sum(record.blamed in (topic, None) and topic in record.words for record in records)
            added.append(f"When the message mentions {word}, {_action(world, topic, support, records, rejected, rng)}.")
        if rng.random() < world.verbose:
            added.append(rng.choice(FILLERS))
        lines += added
    return reply_in_form(request, " ".join(added) or "reword", "\n".join(lines))


def current_text(world: World, request: str) -> tuple[str, str]:
    """(agent, its instruction): from where its first sentence stands, as long as lines look like instructions."""
    starts = {agent: request.find(world.start_of(agent)) for agent in world.agents}
    found = {agent: place for agent, place in starts.items() if place >= 0}
    if not found:
        return world.agents[0], world.start_of(world.agents[0])
    agent = min(found, key=lambda name: found[name])
    first, *rest = request[found[agent] :].split("\n")
    lines = [world.start_of(agent)]
    for line in rest if first.strip() == lines[0] else []:
        if not (LINE.fullmatch(line.strip()) or line.strip() in FILLERS):
            break
        lines.append(line.strip())
    return agent, "\n".join(lines)


def read_records(world: World, request: str) -> list[Record]:
    """The runs shown; one that nothing calls right or wrong is an example to learn from, if it has an answer."""
    found = list(_MESSAGE.finditer(request))
    ends = [*(match.start() for match in found[1:]), len(request)][: len(found)]
    records: list[Record] = []
    for match, end in zip(found, ends, strict=True):
        said, words = request[match.end() : end], tuple(match[1].split(" and "))
        blame = _BLAME.search(said)
        truth = {topic: world.right[topic] for topic in words if topic in world.right}
        pairs = set(ANSWER.findall(said))
        is_right, is_wrong = _RIGHT in said, bool(blame) or _WRONG in said
        # Shown the right answer: said to be right, or given as what was expected, or as an example without a grade.
        is_given = is_right or not is_wrong or world.is_labelled
        is_labelled = is_given and all(pair in pairs for pair in truth.items())
        records.append(
            Record(words, blame[1] if blame else None, is_wrong or (is_labelled and not is_right), is_labelled)
        )
    return records


def _blamed(world: World, agent: str, records: Sequence[Record], rng: random.Random) -> list[str]:
    blamed: list[str] = []
    for record in records:
        if record.is_failed:
            topics = [word for word in record.words if word in world.topics and world.owner(word) == agent]
            if record.blamed in topics:
                blamed.append(record.blamed)
            elif topics and record.blamed is None:
                blamed.append(rng.choice(topics))
    return blamed


def _chosen(blamed: list[str], request: str, rng: random.Random) -> list[str]:
    ranked = sorted(dict.fromkeys(blamed), key=lambda topic: (-blamed.count(topic), topic))
    if "a failure that is rare" in request:
        return ranked[-1:]
    if "the one cause behind most" in request:
        return ranked[:1]
    return ranked[: rng.randint(1, 3)]


def _cause(world: World, topic: str, records: Sequence[Record], rng: random.Random) -> str:
    """The topic, or something else the failed messages about it mention."""
    others = [w for r in records if r.is_failed and topic in r.words for w in r.words if w in world.things]
    return rng.choice(others) if others and rng.random() < world.spurious else topic


def _action(
    world: World,
    topic: str,
    support: int,
    records: Sequence[Record],
    rejected: set[tuple[str, str]],
    rng: random.Random,
) -> str:
    """Right more often the more runs show the same cause, and where one shows the right answer."""
    is_shown = any(record.is_labelled and topic in record.words for record in records)
    skill = 1 - (1 - world.skill) / 2 if is_shown else world.skill
    if rng.random() < skill * (1 - 0.5**support):
        return world.right[topic]
    fresh = [action for action in ACTIONS if (topic, action) not in rejected]
    return rng.choice(fresh or ACTIONS)
