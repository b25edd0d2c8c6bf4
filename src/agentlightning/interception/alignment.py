"""Several texts become one template: what they all share stays, what differs becomes slots.

Texts are aligned one after another against the template so far, which can only lose constants (`overlap` says what two
texts share). Most texts fit the template after the first few, and a fit is found without aligning, so hundreds of long
prompts take about a second.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, groupby

from agentlightning.data.template import marker
from agentlightning.interception.overlap import GAP, Tokens, aligned
from agentlightning.interception.slots import CJK, Span, is_border, weight

_HOLE = re.compile(r"⟦[a-z]+⟧")
_TOKEN = re.compile(rf"\d+(?:[.,:]\d+)+|[{CJK}]|[^\W{CJK}]+(?:['’.@-][^\W{CJK}]+)*|\n|[^\S\n]+|.", re.DOTALL)
_FLAT_BRACKET = re.compile(r"\[[^\[\]\n]{1,300}\]|\{[^{}\n]{1,300}\}")
_LABEL = re.compile(r"\w[\"'”*_]*\s*[:：=>][\s\"'“*_(\[{]*$")
_BRACKET_OR_QUOTE = re.compile(r"[\"'`“”‘’<>()\[\]{}⟦⟧]")
_DIGITS = re.compile(r"\d+")
_SHORT_ISLAND = 40
_COARSE_WORDS = 6
_MAX_FAILED_JSON = 64


def tokenise(text: str, spans: Sequence[Span]) -> Tokens:
    """Words, CJK characters, punctuation and white space; a span is one hole, a JSON value or short bracket one token.

    Joined, the tokens give the text with a marker in place of each span.
    """
    tokens: list[str] = []
    position, left = 0, deque(spans)
    for start, end in _brackets(text):
        position = _tokenise_plain(tokens, text, position, start, left)
        if position == start:
            inside: list[str] = []
            position = _tokenise_plain(inside, text, start, end, left)
            tokens.append("".join(inside))
    _tokenise_plain(tokens, text, position, len(text), left)
    return tuple(tokens)


def _tokenise_plain(tokens: list[str], text: str, position: int, stop: int, spans: deque[Span]) -> int:
    """Append the tokens up to `stop` and the spans that begin before it; where they end."""
    while spans and spans[0].start < stop:
        span = spans.popleft()
        tokens += _TOKEN.findall(text, position, span.start)
        tokens.append(marker(span.kind))
        position = span.end
    tokens += _TOKEN.findall(text, position, stop)
    return max(position, stop)


def _brackets(text: str) -> Iterator[tuple[int, int]]:
    """JSON values, and short flat brackets as Python prints its lists: they vary as a whole, whatever their length."""
    decoder, failures, position = json.JSONDecoder(), 0, 0
    for opening in re.finditer(r"[\[{]", text):
        start = opening.start()
        if start < position:
            continue
        end = None
        if failures < _MAX_FAILED_JSON:
            try:
                end = decoder.raw_decode(text, start)[1]
            except (ValueError, RecursionError):
                failures += 1
        if end is None and (flat := _FLAT_BRACKET.match(text, start)):
            end = flat.end()
        is_all = end is not None and text[start:end] == text.strip()  # then what varies is inside
        if end is not None and not is_all and re.search(r"[,:\"']", text[start:end]):
            yield start, end
            position = end


def learn(texts: Sequence[Tokens]) -> Tokens:
    """The template all the texts fit, holes as markers. The order of the texts does not matter.

    They are taken by their checksum: neighbours then differ widely, and the template settles after few alignments.
    """
    ordered = sorted(
        (zlib.crc32(joined.encode("utf-8", "surrogatepass")), joined, tokens)
        for tokens, joined in {tokens: "".join(tokens) for tokens in texts}.items()
    )
    template = _cleaned(ordered[0][2])
    constants = constant_runs(template)
    for _, joined, tokens in ordered[1:]:
        if not _fits(constants, joined):
            template = _cleaned(aligned(template, tokens))
            constants = constant_runs(template)
    return template


def coarser(template: Tokens) -> Tokens:
    """The template without what it has of short runs between two slots, which some texts share and others do not."""
    holes, islands = _split(template)
    if not holes:
        return template
    short = {index for index in range(1, len(holes)) if weight("".join(islands[index])) < _COARSE_WORDS}
    return _joined(*_without(short, holes, islands))


def constant_runs(template: Tokens) -> tuple[str, ...]:
    """The text between the holes, from before the first to after the last."""
    return tuple(_HOLE.split("".join(template)))


def num_constant_words(template: Tokens) -> float:
    """How much instruction text there is: words outside the holes, a CJK character counting as half a word."""
    return weight(" ".join(constant_runs(template)))


def _fits(constants: tuple[str, ...], text: str) -> bool:
    """Whether the constants stand in the text in order, cutting no word and no hole of it in two."""
    first, last = constants[0], constants[-1]
    if len(constants) == 1:
        return text == first
    position, end = len(first), len(text) - len(last)
    if end < position or not text.startswith(first) or not text.endswith(last):
        return False
    if not (_is_free(text, position) and _is_free(text, end)):
        return False
    for constant in constants[1:-1]:
        found = text.find(constant, position, end)
        while found >= 0 and not (_is_free(text, found) and _is_free(text, found + len(constant))):
            found = text.find(constant, found + 1, end)
        if found < 0:
            return False
        position = found + len(constant)
    return True


def _is_free(text: str, place: int) -> bool:
    return is_border(text, place) and text[max(place - 1, 0) : place] != "⟦" and text[place : place + 1] != "⟧"


def _cleaned(tokens: Tokens) -> Tokens:
    """Without the constants beside slots that nobody wrote as instructions, and with adjacent slots as one.

    A run between two slots stays when it says something (two words and 8 letters, or 4 CJK characters), when it is a
    label (`City: `, `</context>`), or when both slots are there by nature (`⟦date⟧, ⟦time⟧`). Lone words and commas go:
    they are shared by chance. Short runs that come again and again are the skeleton of a list of varying length; the
    whole list becomes one slot.
    """
    holes, islands = _split(tokens)
    _snap_to_lines(holes, islands)
    while dropped := _by_chance(holes, islands) or _repeated(islands):
        holes, islands = _without(dropped, holes, islands)
        _snap_to_lines(holes, islands)
    return _joined(holes, islands)


def _split(tokens: Tokens) -> tuple[list[str], list[Tokens]]:
    """The holes, those beside each other as one, and what stands before, between and after them."""
    holes: list[str] = []
    islands: list[Tokens] = [()]
    for is_hole, run in groupby(tokens, key=lambda token: bool(_HOLE.fullmatch(token))):
        run = tuple(run)
        if is_hole:
            holes.append(run[0] if len(run) == 1 else GAP)
            islands.append(())
        else:
            islands[-1] = run
    return holes, islands


def _joined(holes: list[str], islands: list[Tokens]) -> Tokens:
    return (*islands[0], *chain(*((hole, *island) for hole, island in zip(holes, islands[1:], strict=True))))


def _snap_to_lines(holes: list[str], islands: list[Tokens]) -> None:
    """Where a line holds a gap and next to it only a bullet, a lone word or a full stop, these join the gap."""
    for index, hole in enumerate(holes):
        if hole == GAP:
            before, after = islands[index], islands[index + 1]
            breaks = [place for place, token in enumerate(before) if token == "\n"]
            if breaks and _is_trivial(before[breaks[-1] + 1 :]):
                islands[index] = before[: breaks[-1] + 1]
            if "\n" in after and _is_trivial(after[: after.index("\n")]):
                islands[index + 1] = after[after.index("\n") :]


def _is_trivial(tokens: Tokens) -> bool:
    text = "".join(tokens)
    return weight(text) < 2 and not _LABEL.search(text) and not _BRACKET_OR_QUOTE.search(text)


def _by_chance(holes: list[str], islands: list[Tokens]) -> set[int]:
    return {
        index
        for index in range(1, len(holes))
        if GAP in holes[index - 1 : index + 1] and not _says_something("".join(islands[index]))
    }


def _says_something(text: str) -> bool:
    letters = sum(2 if character >= "\u2e80" else 1 for character in text if character.isalpha())
    return (weight(text) >= 2 and letters >= 8) or _LABEL.search(text) is not None


def _repeated(islands: list[Tokens]) -> set[int]:
    """Inner islands from the first to the last of equal ones, where all of them in between are short."""
    repeated: set[int] = set()
    first: dict[str, int] = {}
    for index in range(1, len(islands) - 1):
        text = "".join(islands[index])
        if len(text) > _SHORT_ISLAND:
            first.clear()
            continue
        before = first.setdefault(_DIGITS.sub("0", text).strip(), index)
        if before < index:
            repeated.update(range(before, index + 1))
    return repeated


def _without(dropped: set[int], holes: list[str], islands: list[Tokens]) -> tuple[list[str], list[Tokens]]:
    kept_holes, kept_islands = holes[:1], islands[:1]
    for index in range(1, len(holes)):
        if index in dropped:
            kept_holes[-1] = GAP
        else:
            kept_holes.append(holes[index])
            kept_islands.append(islands[index])
    return kept_holes, [*kept_islands, islands[-1]]
