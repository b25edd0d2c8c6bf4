"""What two texts share, and what of it only by chance.

The longest run of words both have comes first, then the longest on either side of it, and so on. Two long texts about
anything share some runs, so a run counts only where it is longer than chance makes them between texts of that length.
Labels at the beginning of a line (`Question:`, `</context>`, `## Rules`) say where the parts of a prompt begin, however
short they are: those both texts have once are matched before anything else.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from difflib import SequenceMatcher
from itertools import chain, islice, pairwise, takewhile
from typing import TypeVar, cast

from agentlightning.data.template import marker
from agentlightning.interception.slots import weight

Tokens = tuple[str, ...]
UnitT = TypeVar("UnitT", bound=Hashable)
Run = tuple[int, int, int]
"""(start in left, start in right, size)."""

GAP = marker("gap")
"""A slot found because texts differ there. The other holes say by their name why they are slots."""
_MAX_WORK = 300_000
"""Pairs of equal tokens up to which two runs are compared token by token; about a tenth of a second."""
_CHANCE = 1 / 64
"""How likely two words of ordinary prose are the same."""
_MAX_FALSE = 0.05
"""Runs of that length which chance may be expected to make."""
_MIN_WORDS_MEASURED = 50
"""From this length on, a text shows by itself how often its words recur."""
_INPUT = marker("input")
_LABEL_ENDS = (":", "：", "=", ">")
_HEAD = re.compile(
    r"[^\S\n]*(?:</?[\w:.-]+(?:\s[^<>\n]*)?>|[#*>-]*[^\S\n]*(?:[^\W\d][\w'’-]*[^\S\n]){0,3}[^\W\d][\w'’-]*\**[:：])"
)


def aligned(left: Tokens, right: Tokens) -> Tokens:
    """What both share, in order, with a gap wherever either has something else."""
    start, end = 0, 0
    shorter = min(len(left), len(right))
    while start < shorter and left[start] == right[start]:
        start += 1
    while end < shorter - start and left[-1 - end] == right[-1 - end]:
        end += 1
    stop_left, stop_right = len(left) - end, len(right) - end
    middle = _common(left[start:stop_left], right[start:stop_right])
    return (*left[:start], *middle, *left[stop_left:])


def _common(left: Tokens, right: Tokens) -> list[str]:
    """As `aligned`. Where comparing tokens would take too long, lines come first, then what is between shared ones."""
    merged: list[str] = []
    if _work(left, right) <= _MAX_WORK:
        for only_left, only_right, shared in _blocks(left, right, _labels(left, right)):
            merged += [GAP] if only_left or only_right else []
            merged += shared
        return merged
    lines = _lines(left), _lines(right)
    if _work(*lines) > _MAX_WORK:
        return [GAP]
    for only_left, only_right, shared in _blocks(*lines, []):
        before, after = tuple(chain(*only_left)), tuple(chain(*only_right))
        merged += _common(before, after) if _work(before, after) <= _MAX_WORK else [GAP]
        merged += chain(*shared)
    return merged


def _blocks(left: Sequence[UnitT], right: Sequence[UnitT], known: list[Run]) -> Iterator[tuple[Sequence[UnitT], ...]]:
    """(only left, only right, shared) after one another; a shared block holds more than white space and punctuation."""
    end_left, end_right = 0, 0
    for start_left, start_right, size in (*_shared(left, right, known), (len(left), len(right), 0)):
        yield left[end_left:start_left], right[end_right:start_right], left[start_left : start_left + size]
        end_left, end_right = start_left + size, start_right + size


def _shared(left: Sequence[UnitT], right: Sequence[UnitT], known: list[Run]) -> Iterator[Run]:
    """Runs of equal units, rising. `known` are some of them.

    Runs are sought among the words alone, since two texts share most white space by chance; what stands between two
    words of a run must be the same in both, and equal white space and punctuation beside a run belongs to it.
    """
    in_left, in_right = _words(left), _words(right)
    sizes = [_size(left, index) for index in in_left]
    done_left, done_right = 0, 0
    for first_left, first_right, size in _matched(
        [left[i] for i in in_left], [right[j] for j in in_right], sizes, known
    ):
        for i, j in zip(
            in_left[first_left : first_left + size], in_right[first_right : first_right + size], strict=True
        ):
            before = _same_filler(reversed(left[done_left:i]), reversed(right[done_right:j]))
            after = _same_filler(islice(left, i + 1, None), islice(right, j + 1, None))
            yield i - before, j - before, before + 1 + after
            done_left, done_right = i + 1 + after, j + 1 + after


def _size(units: Sequence[Hashable], index: int) -> float:
    """Of a unit, in words: a CJK character is half of one, a line all of its words.

    The task's own input is seldom there by chance, nor is a word that ends a label or a tag; they count for one more.
    """
    unit = units[index]
    is_telling = unit == _INPUT or (index + 1 < len(units) and units[index + 1] in _LABEL_ENDS)
    return weight("".join(cast(Iterable[str], unit))) + is_telling


def _matched(left: list[UnitT], right: list[UnitT], sizes: list[float], known: list[Run]) -> list[Run]:
    """Runs of equal words, rising: the known ones, and between them the longest first, as long as they beat chance."""
    found = list(known)
    stops = [(0, 0, 0), *known, (len(left), len(right), 0)]
    gaps = [(a + size, stop, b + size, end) for (a, b, size), (stop, end, _) in pairwise(stops)]
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    while gaps:
        start_left, stop_left, start_right, stop_right = gaps.pop()
        i, j, size = matcher.find_longest_match(start_left, stop_left, start_right, stop_right)
        around = left[start_left:stop_left], right[start_right:stop_right]
        if size and sum(sizes[i : i + size]) >= _least_size(*around):
            found.append((i, j, size))
            gaps += [(start_left, i, start_right, j), (i + size, stop_left, j + size, stop_right)]
    return sorted(found)


def _least_size(left: Sequence[Hashable], right: Sequence[Hashable]) -> float:
    """Of a run that two such texts would hardly ever share by chance: they are expected to share len·len·p^size."""
    num_pairs, p = len(left) * len(right), _CHANCE
    if min(len(left), len(right)) >= _MIN_WORDS_MEASURED:
        p = min(max(p, _work(left, right) / num_pairs), 0.5)
    return math.log(num_pairs / _MAX_FALSE) / -math.log(p)


def _labels(left: Tokens, right: Tokens) -> list[Run]:
    """Labels at the beginning of lines that each text has once, in the same order in both: runs among their words."""
    heads_left, heads_right = _heads(left), _heads(right)
    shared_left = [head for head in heads_left if head in heads_right]
    shared_right = [head for head in heads_right if head in heads_left]
    matcher = SequenceMatcher(None, shared_left, shared_right, autojunk=False)
    return [
        (heads_left[head][0], heads_right[head][0], heads_left[head][1])
        for start, _, size in matcher.get_matching_blocks()
        for head in shared_left[start : start + size]
    ]


def _heads(tokens: Tokens) -> dict[str, tuple[int, int]]:
    """Label → (its first word's place among the words, number of its words), for labels that stand there once.

    Labels at the beginning of a line or right after a slot.
    """
    found: dict[str, tuple[int, int]] = {}
    num_seen: Counter[str] = Counter()
    num_words = 0
    for line in _lines(tokens, after_holes=True):
        if head := _HEAD.match("".join(line)):
            num_seen[head[0]] += 1
            found[head[0]] = (num_words, _num_words_within(line, head.end()))
        num_words += len(_words(line))
    return {head: place for head, place in found.items() if num_seen[head] == 1 and place[1]}


def _num_words_within(line: Tokens, length: int) -> int:
    """Words among the tokens that lie within the line's first characters; 0 where those cut a token in two."""
    count = 0
    for token in line:
        if length <= 0:
            break
        length -= len(token)
        count += not _is_filler(token)
    return count if length == 0 else 0


def _words(units: Sequence[Hashable]) -> list[int]:
    return [index for index, unit in enumerate(units) if not _is_filler(unit)]


def _same_filler(left: Iterable[Hashable], right: Iterable[Hashable]) -> int:
    """How many units of white space and punctuation both begin with."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1] and _is_filler(pair[0]), zip(left, right, strict=False))
    )


def _work(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """How many pairs of equal units there are, which is what an alignment takes."""
    there = Counter(right)
    return sum(count * there[unit] for unit, count in Counter(left).items() if there[unit] and not _is_filler(unit))


def _is_filler(unit: Hashable) -> bool:
    return not any(character.isalnum() for character in "".join(cast(Iterable[str], unit)))


def _lines(tokens: Tokens, *, after_holes: bool = False) -> tuple[Tokens, ...]:
    """The lines. `after_holes`: a slot ends one, too, since it may have taken the line break with it."""
    ends = [i + 1 for i, token in enumerate(tokens) if token == "\n" or (after_holes and token[:1] == "⟦" != token)]
    return tuple(tokens[start:end] for start, end in pairwise([0, *ends, len(tokens)]) if start < end)
