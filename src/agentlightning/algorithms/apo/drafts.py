"""Of several drafts the most typical one, without the lines that hardly any other draft has.

Self-consistency (arXiv 2203.11171) for texts, chosen as in minimum Bayes risk decoding: what an optimiser model says
again and again is more often right, and guesses that miss, miss in different ways. A draft costs one call; running a
candidate on a batch of tasks costs many.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from agentlightning.algorithms.apo.edits import lines_of

_WORD = re.compile(r"\w+")
_ALIKE = 0.5
"""Share of the words two lines have, the rarer counting more, from which they say the same."""

_Words = frozenset[str]


def most_typical(drafts: Sequence[str], current: str) -> str:
    """The draft whose new lines are most like those of the others; the first of equals."""
    return _Drafts(drafts, current).most_typical


def without_loners(drafts: Sequence[str], current: str) -> str:
    """The most typical draft without its new lines that fewer than half of the others have, in whatever words.

    As it is where no new line would stay.
    """
    return _Drafts(drafts, current).without_loners


class _Drafts:
    def __init__(self, drafts: Sequence[str], current: str) -> None:
        known = set(lines_of(current))
        self._texts = drafts
        self._all = [[_words(line) for line in lines_of(draft)] for draft in drafts]
        self._new = [[_words(line) for line in lines_of(draft) if line not in known] for draft in drafts]
        self._known = known
        self._counts = Counter(word for lines in self._new for line in lines for word in line)
        self._best = max(range(len(drafts)), key=lambda index: (self._agreement(index), -index))

    @property
    def most_typical(self) -> str:
        return self._texts[self._best]

    @property
    def without_loners(self) -> str:
        text = self.most_typical
        new = [line for line in lines_of(text) if line not in self._known]
        loners = {line for line in new if self._num_alike(_words(line)) < (len(self._texts) - 1) // 2}
        if len(loners) == len(set(new)):
            return text
        return "\n".join(line for line in text.splitlines() if line not in loners)

    def _agreement(self, index: int) -> float:
        return sum(self._likeness(self._new[index], lines) for lines in self._others(self._new, index))

    def _others(self, lists: Sequence[list[_Words]], index: int) -> list[list[_Words]]:
        return [lines for other, lines in enumerate(lists) if other != index]

    def _num_alike(self, line: _Words) -> int:
        """How many of the other drafts have the line."""
        others = self._others(self._all, self._best)
        return sum(any(self._overlap(line, other) >= _ALIKE for other in lines) for lines in others)

    def _likeness(self, lines: Sequence[_Words], others: Sequence[_Words]) -> float:
        """How well each line finds its like on the other side, in both directions, 0 to 1."""
        if not lines or not others:
            return float(not lines and not others)
        there = [max(self._overlap(line, other) for other in others) for line in lines]
        back = [max(self._overlap(line, other) for line in lines) for other in others]
        return (sum(there) / len(there) + sum(back) / len(back)) / 2

    def _overlap(self, line: _Words, other: _Words) -> float:
        """Shared words over all words, each weighing less the more new lines have it: a rule's form says little."""
        # Summed exactly: the order of a set is not the same in every process, and a rounding may decide.
        whole = math.fsum(1 / max(1, self._counts[word]) for word in line | other)
        return math.fsum(1 / max(1, self._counts[word]) for word in line & other) / whole if whole else 0.0


def _words(line: str) -> _Words:
    return frozenset(_WORD.findall(line.lower()))
