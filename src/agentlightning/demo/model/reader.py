"""Reading instructions: plain English becomes rules, wishes about the answer's form, and advice about tools.

Attention is limited on purpose, as a real model's is: only the first 25 sentences count, and beyond 4,000 characters
rules are missed at random, more of them the longer the text (which ones depends on the text alone).
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from agentlightning.demo.model.language import chance, sentences
from agentlightning.demo.model.routing import read_rule
from agentlightning.demo.model.rules import Rule

MAX_SENTENCES = 25
MAX_CHARACTERS = 4_000

_LIST_CUE = (
    r"\b(?:queues?|labels?|categor\w+|class\w*|options?|topics?|departments?|teams?|one of|among|between|belongs? to)\b"
)
_LABEL_LIST = re.compile(
    _LIST_CUE + r"[^.\n:]{0,60}?(?::|\bare\b|\bof\b|\bto\b|\bfrom\b)?\s*[(\[]?\s*"
    r"((?:[\"'`]?[A-Za-z][\w-]*[\"'`]?\s*(?:,\s*(?:and\s+|or\s+)?|\||/|\s+or\s+|\s+and\s+)\s*){2,}[\"'`]?[A-Za-z][\w-]*)",
    re.IGNORECASE,
)
_LIST_SEPARATOR = re.compile(r"\s*(?:,\s*(?:and\s+|or\s+)?|\||/|\s+or\s+|\s+and\s+)\s*")
_DEFINITION = re.compile(r"^\s*[-*•]\s+[\"'`*]*([A-Za-z][\w-]*)[\"'`*]*\s*(?:$|[:(–—-])", re.MULTILINE)
_ANSWERING = re.compile(r"\b(?:answer|reply|respond|output|return|write|print|give|say)\w*\b", re.IGNORECASE)
_BARE = re.compile(
    r"\b(?:only|just|nothing (?:else|but)|one word|single word|exactly|bare|alone|do not explain|don't explain"
    r"|without (?:any )?(?:explanation|other|further)"
    r"|no (?:other|extra|further|additional|explanation|sentence|punctuation))\b",
    re.IGNORECASE,
)
_LOOKING_UP = re.compile(r"\b(?:look(?:ing)? ?up|lookup|check|call|use|query|consult|fetch|run)\b", re.IGNORECASE)
_FORBIDDING = re.compile(
    r"\b(?:never|do not|don't|avoid|without)\b[^.]{0,20}\b(?:call|us|look|check)\w*", re.IGNORECASE
)
_RECORD = re.compile(r"\b(?:order(?:'s)?(?: status)?|status|record|tools?|system|database)\b", re.IGNORECASE)


class Instructions(msgspec.Struct, frozen=True):
    """What a model takes away from its instruction text."""

    labels: tuple[str, ...]
    """The answers the text lists; empty when it lists none."""
    rules: tuple[Rule, ...]
    wants_label_only: bool
    lookup: bool | None
    """True: told to look things up. False: told not to. None: nothing was said."""


@lru_cache(maxsize=2048)
def read(text: str, tool_names: tuple[str, ...] = ()) -> Instructions:
    """Instructions as far as the model takes them in; anything it cannot parse is simply not followed."""
    labels = find_labels(text)
    lines = sentences(text)[:MAX_SENTENCES]
    rules: list[Rule] = []
    label_only, lookup = False, None
    for position, line in enumerate(lines):
        rule = read_rule(line, labels, position)
        if rule is not None:
            if not _is_missed(text, line):
                rules.append(rule)
            continue
        label_only = label_only or asks_for_label_only(line)
        advice = read_lookup(line, tool_names)
        lookup = advice if advice is not None else lookup
    return Instructions(labels, tuple(sorted(rules, key=lambda rule: rule.rank)), label_only, lookup)


def find_labels(text: str) -> tuple[str, ...]:
    """The answers a text offers: a list of three or more single words after a cue such as "queue", or bullets."""
    if listed := _LABEL_LIST.search(text):
        parts = _LIST_SEPARATOR.split(listed.group(1))
    else:
        parts = _DEFINITION.findall(text) if re.search(_LIST_CUE, text, re.IGNORECASE) else []
    labels = list(dict.fromkeys(part.strip("\"'` ").lower() for part in parts))
    return tuple(labels) if len(labels) >= 2 else ()


def asks_for_label_only(line: str) -> bool:
    """Whether a sentence asks for the bare answer, without words around it."""
    return bool(_ANSWERING.search(line) and _BARE.search(line))


def read_lookup(line: str, tool_names: tuple[str, ...]) -> bool | None:
    """Whether a sentence tells to look something up (True), not to (False), or says nothing about it (None)."""
    names_tool = any(name.lower() in line.lower() for name in tool_names)
    if _FORBIDDING.search(line) and (names_tool or _RECORD.search(line)):
        return False
    if names_tool or (_LOOKING_UP.search(line) and _RECORD.search(line)):
        return True
    return None


def _is_missed(text: str, line: str) -> bool:
    excess = max(0, len(text) - MAX_CHARACTERS) / MAX_CHARACTERS
    return chance("attention", text, line) < min(0.9, excess)
