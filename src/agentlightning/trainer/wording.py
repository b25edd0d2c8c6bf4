"""Numbers, durations and changed words as a person reads them; the summary and the report say them alike."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

ChangeKind = Literal["same", "added", "removed"]

_WORD = re.compile(r"[ \t]*⟦[^⟦⟧]*⟧|[ \t]*\w+|\n+|[ \t]*[^\w\s]|\s")
_SHORTEST_ISLAND = 3
"""Fewer unchanged words than this between two changes, on one line, read better as part of the change."""


class Change(NamedTuple):
    """A run of text that stayed, came or went."""

    kind: ChangeKind
    text: str


def number(value: float) -> str:
    """A reward: two decimals, fewer when it is large; a small one is never rounded to zero."""
    size = abs(value)
    if 0 < size < 0.005:
        text = f"{value:.1g}" if size >= 1e-4 else f"{value:.0e}"
    else:
        text = f"{value:,.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return text.replace("-", "−")


def signed(value: float) -> str:
    """A difference, its sign always shown."""
    return number(value) if value < 0 else f"+{number(value)}"


def p_value(value: float) -> str:
    """`p = 0.004`, and `p < 0.001` below that."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def counted(count: int, noun: str) -> str:
    """`1 task`, `1,200 tasks`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def dollars(usd: float | None) -> str:
    """`$0.84`, with more decimals below ten cents; a price that is not known is said to be unknown."""
    if usd is None:
        return "price not known"
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plain_text(value: Any) -> str:
    """Any recorded value as text: strings as they are, other values as indented JSON."""
    if isinstance(value, str):
        return value
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def line_diff(old: str, new: str) -> list[str]:
    """Unified diff lines without the file header; two lines of context."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=2)
    return [line for line in lines if not line.startswith(("--- ", "+++ ", "@@"))] if old != new else []


def word_changes(old: str, new: str) -> list[Change]:
    """Which words of `old` went and which of `new` came, in reading order; slot markers are single words.

    The texts of "same" and "removed" join to `old`, those of "same" and "added" to `new`.
    """
    before, after = _WORD.findall(old), _WORD.findall(new)
    changes: list[Change] = []
    for removed, added, same in _runs(before, after):
        parts: tuple[tuple[ChangeKind, list[str]], ...] = (("removed", removed), ("added", added), ("same", same))
        changes += [Change(kind, "".join(words)) for kind, words in parts if words]
    return changes


def _runs(before: list[str], after: list[str]) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """(removed, added, then unchanged) runs, with short islands of unchanged words joined to the change around them."""
    removed: list[str] = []
    added: list[str] = []
    blocks = difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()
    old_at = new_at = 0
    for block in blocks:
        removed += before[old_at : block.a]
        added += after[new_at : block.b]
        same = before[block.a : block.a + block.size]
        old_at, new_at = block.a + block.size, block.b + block.size
        is_last = old_at == len(before) or new_at == len(after)
        is_short = len(same) < _SHORTEST_ISLAND and not any("\n" in word for word in same)
        if (removed or added) and is_short and not is_last:
            removed += same
            added += same
            continue
        yield removed, added, same
        removed, added = [], []
