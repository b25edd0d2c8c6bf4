"""A template is instruction text with named holes, written `⟦name⟧`, and text matches it or does not.

Matching takes the leftmost fit of each constant run, so it is linear in the text and never backtracks.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

_MARKER = re.compile(r"⟦([^⟦⟧]{1,64})⟧")
_SPACE = re.compile(r"\s+")


def marker(name: str) -> str:
    """How a slot is written inside a template or a candidate."""
    return f"⟦{name}⟧"


@lru_cache(maxsize=4096)
def parse(template: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(constants, slot names): one more constant than slots, so they interleave from the first constant to the last."""
    pieces = _MARKER.split(template)
    return tuple(pieces[0::2]), tuple(pieces[1::2])


def slot_names(template: str) -> tuple[str, ...]:
    """The slots, in order of appearance, repeats included."""
    return parse(template)[1]


def constant_length(template: str) -> int:
    """Characters of the template that are not slots."""
    return sum(map(len, parse(template)[0]))


def match(template: str, text: str) -> dict[str, str] | None:
    """The slot values with which `template` renders to `text`, or None.

    A text that differs only in white space between the constants still matches (the one realignment tried); its values
    keep their own white space. A slot that stands twice must have the same value in both places.
    """
    constants, names = parse(template)
    spans = fit(constants, text)
    if spans is None and _SPACE.search(template):
        spans = _fit_any_space(template, text)
    if spans is None:
        return None
    values: dict[str, str] = {}
    for name, (start, end) in zip(names, spans, strict=True):
        if values.setdefault(name, text[start:end]) != text[start:end]:
            return None
    return values


def render(template: str, values: dict[str, str]) -> str:
    """The template with its slots filled; a slot without a value is a KeyError."""
    constants, names = parse(template)
    parts = [constants[0]]
    for name, constant in zip(names, constants[1:], strict=True):
        parts += (values[name], constant)
    return "".join(parts)


def candidate_problems(template: str, text: str, *, max_length: int | None = None) -> list[str]:
    """Why `text` may not replace `template`; empty when it may.

    Every slot of the template must appear exactly once, no other may appear, the length (characters, markers counted as
    written) must be within `max_length`, and the text must not be blank unless the template was.
    """
    problems: list[str] = []
    wanted, given = slot_names(template), slot_names(text)
    for name in dict.fromkeys(wanted):
        count = given.count(name)
        if count != 1:
            problems.append(f"slot {marker(name)} appears {count} times instead of once")
    problems += [f"there is no slot {marker(name)} here" for name in dict.fromkeys(given) if name not in wanted]
    rest = _MARKER.sub("", text)
    if "⟦" in rest or "⟧" in rest:
        problems.append("a slot marker is broken (an unpaired ⟦ or ⟧)")
    if max_length is not None and len(text) > max_length:
        problems.append(f"{len(text)} characters, over the cap of {max_length}")
    if template.strip() and not text.strip():
        problems.append("the text is empty")
    return problems


def fit(constants: tuple[str, ...], text: str) -> list[tuple[int, int]] | None:
    """Where the slots lie in `text`, as (start, end) between the constants taken leftmost; None when one is missing."""
    first, last = constants[0], constants[-1]
    if len(constants) == 1:
        return [] if text == first else None
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return None
    spans: list[tuple[int, int]] = []
    position, end = len(first), len(text) - len(last)
    for constant in constants[1:-1]:
        found = text.find(constant, position, end)
        if found < 0:
            return None
        spans.append((position, found))
        position = found + len(constant)
    spans.append((position, end))
    return spans


@lru_cache(maxsize=4096)
def _collapsed(template: str) -> tuple[str, ...]:
    return tuple(_SPACE.sub(" ", constant) for constant in parse(template)[0])


def _fit_any_space(template: str, text: str) -> list[tuple[int, int]] | None:
    """As `fit`, any run of white space counting as one space; the spans are places in the text as it stands."""
    spans = fit(_collapsed(template), _SPACE.sub(" ", text))
    if not spans:
        return spans
    runs = [run.span() for run in _SPACE.finditer(text)]
    dropped = [0, *accumulate(end - start - 1 for start, end in runs)]
    ends = [end - gone for (_, end), gone in zip(runs, dropped[1:], strict=True)]

    def origin(place: int) -> int:
        return place + dropped[bisect_right(ends, place)]

    return [(origin(start), origin(end)) for start, end in spans]
