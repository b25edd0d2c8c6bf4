"""What in a text varies by nature, however constant it looked: dates, times, ids, long numbers, the task's own words.

A date that was the same all through training must not become instruction text, so these parts are found before any
texts are compared. A slot is named and typed afterwards, by all the values it was seen with.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

import msgspec

from agentlightning.data.resource import Slot, SlotType
from agentlightning.interception.moments import DATE, END, TIME

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD = re.compile(rf"[{CJK}]|[^\W{CJK}]+")
_CJK = re.compile(rf"[{CJK}]")

_ID = (
    rf"[0-9a-fA-F]{{8}}-(?:[0-9a-fA-F]{{4}}-){{3}}[0-9a-fA-F]{{12}}{END}"
    rf"|(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{{8,}}{END}"
    rf"|[A-Za-z]{{1,12}}[-_#](?=[A-Za-z]*\d)[A-Za-z0-9]{{8,}}{END}"
    rf"|[A-Za-z]{{1,12}}[-_#]\d{{5,}}{END}"
)
_NUMBER = rf"(?<!\.)(?:\d{{1,3}}(?:,\d{{3}}){{2,}}|\d{{6,}})(?:\.\d+)?{END}"
_VOLATILE = re.compile(
    r"(?P<text>⟦[^⟦⟧\n]{0,64}⟧|[⟦⟧])|(?<![A-Za-z0-9_])(?=[A-Za-z0-9]|(?<![^\W\d_])[^\W\d_])"
    rf"(?:(?P<date>{DATE})|(?P<time>{TIME})|(?P<id>{_ID})|(?P<number>{_NUMBER}))"
)
_KINDS = ("text", "date", "time", "id", "number")
_SHAPES: dict[SlotType, re.Pattern[str]] = {
    "date": re.compile(DATE),
    "time": re.compile(TIME),
    "number": re.compile(r"[-+]?[$€£¥]?\d[\d,]*(?:\.\d+)?%?"),
    "id": re.compile(rf"{_ID}|(?=\S*\d)[A-Za-z0-9]+(?:[-_#:][A-Za-z0-9]+)*"),
}
_BULLET = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")
_SEGMENT_END = re.compile(r'[\n"。！？]+|(?<=[.!?])\s+')
_MAX_SEGMENTS = 1000
_MAX_EXAMPLES, _EXAMPLE_LENGTH = 3, 80


class Span(NamedTuple):
    """text[start:end] is a slot of this kind, before any comparison."""

    start: int
    end: int
    kind: str


class Values(msgspec.Struct, frozen=True):
    """What a task brings along: its input by slot name (`input`, `input_city`), and what its tools answered."""

    inputs: list[tuple[str, str]]
    tool_results: list[str] = []


def input_values(given: str | dict[str, Any]) -> list[tuple[str, str]]:
    """(slot name, text) of the whole input and of every string in it; a dict is also known by its JSON and repr."""
    if isinstance(given, str):
        return [("input", given.strip())] if given.strip() else []
    plain = msgspec.to_builtins(given, enc_hook=str, str_keys=True)
    dumps = [json.dumps(plain, ensure_ascii=ascii, indent=indent) for ascii in (True, False) for indent in (None, 2)]
    values = [("input", text) for text in dict.fromkeys([str(given), *dumps])]
    for key, value in plain.items():
        name = "input_" + re.sub(r"\W+", "_", key)[:40]
        values += [(name, text.strip()) for text in _strings(value)]
    return [(name, text) for name, text in values if text]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def weight(text: str) -> float:
    """How much is said: words, a CJK character counting as half a word."""
    num_cjk = len(_CJK.findall(text))
    return len(WORD.findall(text)) - num_cjk / 2


def is_common_word(value: str) -> bool:
    """A value of one word (fewer than four CJK characters), which instruction text may well contain by chance."""
    return _weight_of_start(value) < 2


def _weight_of_start(text: str) -> float:
    return weight(text[:200])


def find_spans(text: str, tasks: Sequence[Values], shared: frozenset[str] = frozenset()) -> list[Span]:
    """The parts of `text` that are slots by nature, in order, not overlapping.

    `tasks` are those that showed this very text. What it quotes of an input counts only when every one of them carries
    the same words (what a task does not carry cannot have come from it); of tool results, every one that has any.
    Quoted means a whole value (or the whole text, standing inside one), a whole line or sentence (12 characters and 3
    words, or 6 CJK characters), or a longer beginning of one. Values of a single word count only when they are `shared`
    by all tasks. A marker of our own (⟦ ⟧) in the user's text is a slot as well: it is carried over verbatim and never
    read as one of ours.
    """
    inputs = [[value for _, value in task.inputs] for task in tasks]
    results = [task.tool_results for task in tasks if task.tool_results]
    found = [Span(*hit.span(), _kind_of(hit)) for hit in _VOLATILE.finditer(text)]
    found += [Span(*place, "input") for place in _carried_by_all(text, inputs, shared)]
    found += [Span(*place, "text") for place in _carried_by_all(text, results, frozenset())]
    return _merged(found)


def _kind_of(hit: re.Match[str]) -> str:
    return next(kind for kind in _KINDS if hit[kind] is not None)


def _carried_by_all(text: str, carriers: Sequence[Sequence[str]], shared: frozenset[str]) -> Iterator[tuple[int, int]]:
    for value in carriers[0] if carriers else ():
        for start, end in _quotes(text, value, shared):
            piece = text[start:end]
            if all(any(piece in other for other in others) for others in carriers[1:]):
                yield start, end


def _quotes(text: str, value: str, shared: frozenset[str]) -> list[tuple[int, int]]:
    if (value in shared or not is_common_word(value)) and (places := list(_occurrences(text, value))):
        return places
    if text.strip() in value:
        return [(0, len(text))]
    quotes: list[tuple[int, int]] = []
    for segment in _segments(value):
        places = list(_occurrences(text, segment))
        if not places and (place := _beginning(text, segment)):
            places = [place]
        quotes += places
    return quotes


def _segments(value: str) -> list[str]:
    """The whole value, its lines and sentences, as far as they are long enough not to recur by chance."""
    pieces = dict.fromkeys([value, *(piece.strip() for piece in _SEGMENT_END.split(value, _MAX_SEGMENTS))])
    return [piece for piece in pieces if (len(piece) >= 12 or _CJK.search(piece)) and _weight_of_start(piece) >= 3]


def _occurrences(text: str, value: str) -> Iterator[tuple[int, int]]:
    start = text.find(value)
    while start >= 0:
        end = start + len(value)
        if is_border(text, start) and is_border(text, end):
            yield start, end
            start = text.find(value, end)
        else:
            start = text.find(value, start + 1)


def _beginning(text: str, segment: str) -> tuple[int, int] | None:
    """Where the text quotes the segment's beginning (24 characters or more, 10 CJK), cut off at a word border."""
    head = segment[:10] if weight(segment[:10]) >= 4 else segment[:24]
    start = text.find(head)
    if start < 0 or weight(head) < 4 or not is_border(text, start):
        return None
    end = start + _common_prefix(text[start : start + len(segment)], segment)
    while not is_border(text, end):
        end -= 1
    return (start, end) if _weight_of_start(text[start:end]) >= 4 else None


def _common_prefix(left: str, right: str) -> int:
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left.startswith(right[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def is_border(text: str, place: int) -> bool:
    """Whether no word is cut in two at this place."""
    if not 0 < place < len(text):
        return True
    left, right = text[place - 1], text[place]
    return not (_is_letter(left) and _is_letter(right))


def _is_letter(character: str) -> bool:
    return (character.isalnum() or character == "_") and not _CJK.match(character)


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans):
        if not merged or span.start >= merged[-1].end:
            merged.append(span)
            continue
        last = merged[-1]
        longer = max(last, span, key=lambda each: each.end - each.start)
        merged[-1] = Span(last.start, max(last.end, span.end), longer.kind)
    return merged


def describe_slots(rows: Sequence[tuple[Sequence[str], Values]]) -> list[Slot]:
    """Slots with names, types and examples, from what each held: one row per (text, task), one value per slot.

    A slot that held the task's input, or a field of it, nearly always is named after it; the others after their type.
    """
    slots: dict[str, Slot] = {}
    for index in range(len(rows[0][0]) if rows else 0):
        seen = [(values[index], task) for values, task in rows if values[index].strip()]
        type = _type_of([value.strip() for value, _ in seen])
        base = _input_name(seen)
        wanted = chain([base] if base else [], (f"{base or type}_{number}" for number in count(2 if base else 1)))
        name = next(name for name in wanted if name not in slots)
        examples = list(dict.fromkeys(_shortened(value) for value, _ in seen))[:_MAX_EXAMPLES]
        slots[name] = Slot(name=name, type=type, examples=examples)
    return list(slots.values())


def _input_name(seen: Sequence[tuple[str, Values]]) -> str | None:
    counts: Counter[str] = Counter()
    for value, task in seen:
        counts.update({name: 1 for name, text in task.inputs if text == value.strip()})
    name, times = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return name if times and times >= 0.9 * len(seen) else None


def _type_of(values: Sequence[str]) -> SlotType:
    if not values:
        return "text"
    for type, shape in _SHAPES.items():
        if all(shape.fullmatch(value) for value in values):
            return type
    if all(value[0] in "[{" and _is_json(value) for value in values):
        return "json"
    return "list" if _are_lists(values) else "text"


def _is_json(value: str) -> bool:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _are_lists(values: Sequence[str]) -> bool:
    if all(value[0] == "[" and value[-1] == "]" for value in values):
        return True
    rest = [line for value in values for line in value.splitlines()[1:] if line.strip()]
    return bool(rest) and all(_BULLET.match(line) for line in rest)


def _shortened(value: str) -> str:
    return value if len(value) <= _EXAMPLE_LENGTH else value[: _EXAMPLE_LENGTH - 1] + "…"
