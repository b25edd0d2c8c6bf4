"""Sentences that say where something belongs: "if …, answer X", "X for …", "… goes to X", "X: …", "otherwise X"."""

from __future__ import annotations

import re

from agentlightning.demo.model.conditions import read_condition
from agentlightning.demo.model.rules import Rule

_PRIORITY = re.compile(
    r"\b(?:priority|precedence|before anything else|above all|first of all|no matter|regardless|overrides?"
    r"|most important\w*|even (?:if|when|though))\b",
    re.IGNORECASE,
)
_OPENING = re.compile(
    r"^(?:(?:(?:regardless of|no matter)[^,]*|above all|first of all|before anything else|most importantly|important"
    r"|always|also|and|but|then|so|note(?: that)?|remember(?: that)?|please)[,:]?\s+)+",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"[,;]?\s*\b(?:because|since|even (?:if|when|though)|regardless of|no matter"
    r"|(?:and )?(?:this )?(?:takes? (?:priority|precedence)|overrides)|before anything else)\b[^,:]*|\([^)]*\)",
    re.IGNORECASE,
)
_NOT_THIS_LABEL = (
    r",?\s*(?:and |but )?\b(?:not|rather than|instead of|never)\s+"
    r"(?:to |the |as |in |a )*[\"'`“]?(?:{labels})\b[\"'`”]?"
)
_UNLESS = re.compile(r",?\s*\b(?:unless|except (?:if|when|for|that))\b", re.IGNORECASE)
_LEADING_IF = re.compile(r"^(?:if|when|whenever|where|once|in case|for|should|as soon as)\b", re.IGNORECASE)
_MIDDLE_IF = re.compile(r",?\s*\b(?:if|when|whenever|where|for|in case)\b", re.IGNORECASE)
_DEFAULT = re.compile(
    r"^(?:otherwise|by default|in (?:all|any|every) other cases?|(?:for )?(?:everything|anything|all) else"
    r"|if (?:unsure|nothing|none)\b)",
    re.IGNORECASE,
)
_HANDLES = re.compile(
    r"^(?: (?:queue|team|department))?\s*(?:\*\*)?\s*(?::|=|–|—|-"
    r"|\b(?:handles?|covers?|takes care of|takes|means|gets|receives|includes|owns)\b)\s*(?=\S)",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"→|->|=>|(?:,\s*)?\bthen\b|:|,(?=[^,]*$)"
    r"|,?\s*\b(?:(?:it|they|this|that|these|you|we|the \w+)\s+)?(?:please |always |should |must |is to |are to |can )*"
    r"(?:answer|reply|respond|output|return|say|choose|pick|select|use|route|send|assign|forward|classify|label|go(?:es)?"
    r"|belongs?|treat|mark|put|file|escalate|give|count|means?|is|are|be)\b",
    re.IGNORECASE,
)
"""What leads from a condition to its label; the last one before the label counts."""
_DIRECTIVE = re.compile(
    r"^(?:please |always )*(?:route|send|assign|forward|treat|classify|put|mark|file|direct|pass|hand|give"
    r"|label|move)\b",
    re.IGNORECASE,
)


def read_rule(line: str, labels: tuple[str, ...], position: int = 0) -> Rule | None:
    """The routing rule a sentence states, or None when it states none that can be understood."""
    if not labels or len(_mentions(line, labels)) > 3:
        return None
    rejected = _NOT_THIS_LABEL.format(labels="|".join(map(re.escape, labels)))
    bare = re.sub(rejected, "", _ASIDE.sub("", _OPENING.sub("", line)), flags=re.IGNORECASE).rstrip(" .!;")
    split = _split(bare, labels)
    if split is None:
        return None
    body, label, is_list = split
    main, *exceptions = _UNLESS.split(body)
    condition = read_condition(main, is_list=is_list)
    if not condition and not _DEFAULT.search(bare):
        return None
    for exception in exceptions:
        condition += read_condition(exception, is_negated=True)
    return Rule(condition, label, line, position, has_priority=bool(_PRIORITY.search(line)))


def _split(text: str, labels: tuple[str, ...]) -> tuple[str, str, bool] | None:
    """(condition text, label, whether its "and" merely lists alternatives)."""
    mentions = _mentions(text, labels)
    if not mentions:
        return None
    if _DEFAULT.search(text):
        return "", mentions[-1][0], False
    if lead := _LEADING_IF.match(text):
        label, start, end = mentions[-1]
        tail = text[end:]
        unless = _UNLESS.search(tail)
        return _before_verb(text[lead.end() : start]) + (tail[unless.start() :] if unless else ""), label, False
    first, start, end = mentions[0]
    if start <= 6 and (handles := _HANDLES.match(text[end:].lstrip("\"'`"))):
        return text[end:].lstrip("\"'`")[handles.end() :], first, True
    for middle in _MIDDLE_IF.finditer(text):
        before = [mention for mention in mentions if mention[2] <= middle.start()]
        if before and not _says_something(text[: before[-1][1]]):
            return text[middle.end() :], before[-1][0], middle.group().strip(", ").lower() == "for"
    label, start, end = mentions[-1]
    unless = _UNLESS.search(text[end:])
    exception = text[end:][unless.start() :] if unless else ""
    return _before_verb(_DIRECTIVE.sub("", text[:start])) + exception, label, True


def _says_something(before_label: str) -> bool:
    return bool(read_condition(_before_verb(_DIRECTIVE.sub("", before_label)), is_list=True))


def _before_verb(text: str) -> str:
    """The condition in "CONDITION, answer": everything before the last verb that leads to the label."""
    outside = re.sub(r"([\"“`]).*?([\"”`])", lambda quoted: "\x00" * len(quoted.group()), text)
    verbs = [verb for verb in _VERB.finditer(outside) if not outside[verb.end() :].strip(" \"“'`").count("\x00")]
    return text[: verbs[-1].start()] if verbs else text


def _mentions(text: str, labels: tuple[str, ...]) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for label in labels:
        forms = re.escape(label) + (f"|{re.escape(label[:-3])}(?:e|es|ed|ing)" if label.endswith("ation") else "")
        found += [(label, m.start(), m.end()) for m in re.finditer(rf"\b(?:{forms})\b", text, re.IGNORECASE)]
    return sorted(found, key=lambda mention: mention[1])
