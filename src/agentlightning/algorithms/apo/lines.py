"""A prompt as a list of lines: which were added, where each came from, what it seems to be worth, and what to drop.

A line's worth is read from every comparison in which it was added or removed. Lines of the original text and lines with
a slot are never dropped here; a reflection may still rewrite them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from agentlightning.algorithms.apo.edits import edits_of, lines_of
from agentlightning.algorithms.apo.search import Candidate, Turn, Verdict
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.template import slot_names

_DOUBT = 8.0
"""Tasks' worth of "no effect" that a line's estimate starts from."""


class Origin(msgspec.Struct, frozen=True):
    """Where a line came from: the round (from 1) that proposed it, the idea, and the tasks whose runs were shown."""

    round: int
    idea: str
    tasks: frozenset[str]


class Line(msgspec.Struct, frozen=True):
    """A line at a site."""

    site: str
    text: str


def added(policy: Policy, other: Policy, site: PromptSite) -> list[str]:
    """The lines that `policy` has at a site and `other` has not, in order."""
    known = set(lines_of(other.text_at(site)))
    return [line for line in lines_of(policy.text_at(site)) if line not in known]


def without(text: str, dropped: Iterable[str]) -> str:
    """The text without these lines; the others keep their places."""
    gone = set(dropped)
    return "\n".join(line for line in text.splitlines() if line not in gone).rstrip("\n")


class LineLedger:
    """Origin and estimated effect of every line that was tried."""

    def __init__(self, sites: Sequence[PromptSite]) -> None:
        self._sites = sites
        self._origins: dict[Line, Origin] = {}
        self._gains: dict[Line, float] = {}
        self._counts: dict[Line, float] = {}

    def learn(self, verdicts: Sequence[Verdict], turn: Turn) -> None:
        """Remember where a round's new lines come from (the first origin stays) and what was measured of them.

        In a comparison, what came in gets the gain and what went out its opposite, in equal shares.
        """
        shown = frozenset(task.id for task in turn.source)
        for verdict in verdicts:
            candidate = verdict.candidate
            came = self._changes(candidate.policy, candidate.parent)
            went = self._changes(candidate.parent, candidate.policy)
            origin = Origin(turn.index + 1, candidate.idea, shown)
            self._origins = dict.fromkeys(came, origin) | self._origins
            self._credit(came, went, verdict)

    def edits(self, candidate: Candidate) -> list[dict[str, Any]]:
        """For the record: what the candidate changes, and which rounds had brought in the lines that went out."""
        rounds = {(line.site, line.text): origin.round for line, origin in self._origins.items()}
        return edits_of(candidate.policy, candidate.parent, self._sites, rounds)

    def _credit(self, came: Sequence[Line], went: Sequence[Line], verdict: Verdict) -> None:
        share = (verdict.training.count + verdict.validation.count) / max(1, len(came) + len(went))
        for lines, gain in ((came, verdict.gain), (went, -verdict.gain)):
            for line in lines:
                self._gains[line] = self._gains.get(line, 0.0) + share * gain
                self._counts[line] = self._counts.get(line, 0.0) + share

    def _changes(self, policy: Policy, other: Policy) -> list[Line]:
        return [Line(site.id, text) for site in self._sites for text in added(policy, other, site)]

    def origin(self, line: Line) -> Origin | None:
        """None for a line of the original text."""
        return self._origins.get(line)

    def suggested_by(self, lines: Iterable[Line]) -> set[str]:
        """The tasks whose runs suggested any of these lines."""
        return {task for line in lines if (origin := self.origin(line)) for task in origin.tasks}

    def effect(self, line: Line) -> float:
        """Estimated mean effect, shrunk towards none."""
        return self._gains.get(line, 0.0) / (self._counts.get(line, 0.0) + _DOUBT)

    def removable(self, policy: Policy) -> list[Line]:
        """The lines that were added to the original, those worth least first."""
        found = [
            Line(site.id, text)
            for site in self._sites
            for text in dict.fromkeys(lines_of(policy.text_at(site)))
            if text not in lines_of(site.template) and not slot_names(text)
        ]
        return sorted(found, key=self.effect)


class Pruner:
    """Which lines to try without next: half of them, the least worth first, then smaller groups, at last each alone."""

    def __init__(self, sites: Sequence[PromptSite], ledger: LineLedger) -> None:
        self._sites, self._ledger = sites, ledger
        self._needed: set[Line] = set()
        """Tried alone and missed."""
        self._size: int | None = None

    def next_group(self, policy: Policy) -> list[Line]:
        """The lines to leave out in the next test; empty when every line was tried."""
        untried = [line for line in self._ledger.removable(policy) if line not in self._needed]
        return untried[: self._size or (len(untried) + 1) // 2]

    def drop(self, policy: Policy, group: Sequence[Line]) -> Policy:
        """The policy without these lines."""
        for site in self._sites:
            if gone := [line.text for line in group if line.site == site.id]:
                policy = policy.with_prompt(site, without(policy.text_at(site), gone))
        return policy

    def learn(self, group: Sequence[Line], *, was_dropped: bool) -> None:
        """After a success larger groups are tried, after a failure smaller ones."""
        if len(group) == 1 and not was_dropped:
            self._needed.update(group)
        self._size = 2 * len(group) if was_dropped else max(1, len(group) // 2)
