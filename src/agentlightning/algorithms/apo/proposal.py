"""Reading an optimiser's reply strictly: a text that would break the agent, or cheat, is refused before it is run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from agentlightning.algorithms.apo.language import same_language
from agentlightning.data.call import Reply
from agentlightning.data.resource import PromptSite
from agentlightning.data.task import Task
from agentlightning.data.template import candidate_problems

_IDEA = re.compile(r"^[\s>*`#-]*idea\s*[*`]*\s*[::]\s*[*`]*\s*(.+)$", re.IGNORECASE | re.MULTILINE)
_OPEN, _CLOSE = re.compile(r"<instruction(?:\s[^>]*)?>", re.IGNORECASE), re.compile(r"</instruction\s*>", re.IGNORECASE)


class Proposal(msgspec.Struct, frozen=True):
    """A reply taken apart, whatever text there is included, and the `problems` it has."""

    idea: str
    text: str
    problems: tuple[str, ...] = ()


def read_proposal(reply: Reply) -> Proposal:
    """The idea and the text of a reply; never raises, what is wrong with the form is listed."""
    said = reply.text
    opened, closed = _OPEN.findall(said), _CLOSE.findall(said)
    problems: list[str] = []
    if reply.finish_reason == "length":
        problems.append("the reply was cut off before its end; answer more briefly")
    if len(opened) != 1 or len(closed) != 1:
        problems.append(
            f"found {len(opened)} <instruction> and {len(closed)} </instruction>, expected one of each around the text"
        )
    body = _CLOSE.split(_OPEN.split(said, maxsplit=1)[-1], maxsplit=1)[0]
    text = body.replace("<\\/instruction", "</instruction").strip()
    idea = _IDEA.search(_OPEN.split(said, maxsplit=1)[0])
    return Proposal(idea.group(1).strip(" *`") if idea else _first_line(text), text, tuple(problems))


class Rules:
    """What a text must be to be run: whole, slots kept, within the cap, changed, in its language, no answer key."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._answers = specific_answers(tasks)

    def problems(self, proposal: Proposal, site: PromptSite, current: str, cap: int) -> list[str]:
        """Why the proposal may not replace `current`; empty when it may."""
        if proposal.problems:
            return list(proposal.problems)
        text = proposal.text
        problems = candidate_problems(site.template, text, max_length=cap)
        if not text:
            problems.append("the new text is empty")
        elif text == current.strip():
            problems.append("the text is the same as the current one")
        if not same_language(current, text):
            problems.append("the text is in another language than the current one")
        if self._quotes_an_answer(text, current):
            problems.append("it copies the expected answer of a task; state the rule, not the answer")
        return list(dict.fromkeys(problems))

    def _quotes_an_answer(self, text: str, current: str) -> bool:
        said, before = _normal(text), _normal(current)
        return any(answer in said and answer not in before for answer in self._answers)


def specific_answers(tasks: Iterable[Task]) -> list[str]:
    """Expected answers that give a task away: 12 or more characters or 3 or more words, and not shared by two tasks.

    An answer that several tasks share is a class label, which a prompt may well have to name.
    """
    owners: dict[str, set[str]] = {}
    for task in tasks:
        for leaf in _leaves(task.expected):
            owners.setdefault(_normal(leaf), set()).add(task.id)
    return [a for a, ids in owners.items() if len(ids) == 1 and (len(a) >= 12 or len(a.split()) >= 3)]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [leaf for child in children for leaf in _leaves(child)]


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:160]
