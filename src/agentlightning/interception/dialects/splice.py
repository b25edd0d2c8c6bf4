"""What of a changed call is still as it came? Those parts keep their bytes; only the others are written anew.

`origins` compares two lists of JSON values. Policies replace and insert a few messages; a person at a breakpoint, or a
call that went through a file, gives equal copies of all the others. So equality counts, not identity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, TypeVar

import msgspec

WireT = TypeVar("WireT")


def origins(before: Sequence[Any], after: Sequence[Any]) -> list[int | None]:
    """For each value of `after`, the index in `before` of what it is, or was made from; None when it is new.

    Indices only rise, and none comes twice. A changed value is made from one of its own role or type.
    """
    if _is_one_replaced(before, after):
        return list(range(len(after)))
    start, stop = 0, min(len(before), len(after))
    while start < stop and _is_same(before[start], after[start]):
        start += 1
    end = 0
    while end < stop - start and _is_same(before[-1 - end], after[-1 - end]):
        end += 1
    inner = _inner(before, after, range(start, len(before) - end), range(start, len(after) - end))
    return [*range(start), *inner, *range(len(before) - end, len(before))]


def spliced(
    wires: Sequence[WireT],
    before: Sequence[Any],
    after: Sequence[Any],
    *,
    new: Callable[[Any], WireT],
    edit: Callable[[WireT, Any, Any], WireT],
) -> list[WireT]:
    """The wire form of `after`, where `wires[i]` is that of `before[i]`.

    `edit` makes the wire form of a changed value out of the old one, the value it had, and the value it has now.
    """
    found: list[WireT] = []
    for value, origin in zip(after, origins(before, after), strict=True):
        if origin is None:
            found.append(new(value))
        elif _is_same(before[origin], value):
            found.append(wires[origin])
        else:
            found.append(edit(wires[origin], before[origin], value))
    return found


def refilled(pieces: Sequence[Any], field_of: Callable[[Any], str], fresh: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The pieces an answer consists of, with those of some fields replaced; all others keep their place and form."""
    left, found = dict(fresh), list[Any]()
    for piece in pieces:
        field = field_of(piece)
        if field not in fresh:
            found.append(piece)
        else:
            found += left.pop(field, ())
    return [*found, *(piece for rest in left.values() for piece in rest)]


def _is_one_replaced(before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Did one value of its kind take another's place, and nothing else change? Nearly always: a prompt was steered."""
    if len(before) != len(after):
        return False
    changed = [pair for pair in zip(before, after, strict=True) if not _is_same(*pair)]
    return len(changed) == 1 and _kind(changed[0][0]) == _kind(changed[0][1])


def _inner(before: Sequence[Any], after: Sequence[Any], old: range, new: range) -> list[int | None]:
    if not old or not new:
        return [None] * len(new)
    matcher = SequenceMatcher(None, [_key(before[i]) for i in old], [_key(after[j]) for j in new], autojunk=False)
    found: list[int | None] = []
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            found += old[i1:i2]
        else:
            found += _paired(before, after, old[i1:i2], new[j1:j2])
    return found


def _paired(before: Sequence[Any], after: Sequence[Any], old: range, new: range) -> list[int | None]:
    """Of one kind to one of its kind, from the end: what is inserted (demos) stands before what it prepares."""
    found: list[int | None] = []
    left = len(old)
    for j in reversed(new):
        place = next((i for i in reversed(old[:left]) if _kind(before[i]) == _kind(after[j])), None)
        if place is not None:
            left = place - old.start
        found.append(place)
    return found[::-1]


def _is_same(one: Any, other: Any) -> bool:
    """Equal; the very same object, as nearly all are, needs no look inside."""
    return one is other or one == other


def _key(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _kind(value: Any) -> Any:
    return (value.get("role"), value.get("type")) if isinstance(value, dict) else type(value)
