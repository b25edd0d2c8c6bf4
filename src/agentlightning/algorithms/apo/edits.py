"""What a candidate changes, edit by edit, with where the old lines came from: the history a person reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from agentlightning.data.resource import Demo, Policy, PromptSite

_WORD = re.compile(r"\w+")
_ALIKE = 0.6
"""Share of a line's words that a new wording keeps; rules about different things share the words of their form."""


class Edit(msgspec.Struct, frozen=True):
    """What became of some lines of a text: a line added, deleted, worded anew, merged of several, or put elsewhere."""

    kind: Literal["add", "delete", "reword", "merge", "reorder"]
    old: tuple[str, ...] = ()
    new: str | None = None


def lines_of(text: str) -> list[str]:
    """The lines that say something."""
    return [line for line in text.splitlines() if line.strip()]


def edits(before: str, after: str) -> list[Edit]:
    """The edits that lead from one text to the other, those of lines that stay alike told as such.

    A new line is worded anew from the old ones that keep most of their words in it, merged if there are several.
    """
    old, new = lines_of(before), lines_of(after)
    gone, come = [line for line in old if line not in new], [line for line in new if line not in old]
    found: list[Edit] = []
    for line in come:
        sources = tuple(other for other in gone if _shared(other, line) >= _ALIKE)
        gone = [other for other in gone if other not in sources]
        found.append(Edit("merge" if len(sources) > 1 else "reword" if sources else "add", sources, line))
    found += [Edit("delete", (line,)) for line in gone]
    stayed = [line for line in old if line in new]
    moved = [line for line in new if line in old] != stayed
    return [*found, Edit("reorder", tuple(stayed))] if moved else found


def _shared(old: str, new: str) -> float:
    """The share of the old line's words that the new one has."""
    words, others = set(_WORD.findall(old.lower())), set(_WORD.findall(new.lower()))
    return len(words & others) / len(words) if words else 0.0


def edits_of(
    policy: Policy, parent: Policy, sites: Sequence[PromptSite], rounds: Mapping[tuple[str, str], int]
) -> list[dict[str, Any]]:
    """All edits as JSON-able builtins. `rounds`: (site id, line) → the round whose idea had brought the line in.

    A line of the original text has no such round: None stands there.
    """
    found: list[dict[str, Any]] = []
    for site in sites:
        for edit in edits(parent.text_at(site), policy.text_at(site)):
            origins = [rounds.get((site.id, line)) for line in edit.old]
            told = {"kind": edit.kind, "site": site.id, "old": list(edit.old), "new": edit.new}
            found.append(told | {"from_rounds": origins})
    return found + _demo_edits(policy.demos, parent.demos)


def _demo_edits(after: Mapping[str, Sequence[Demo]], before: Mapping[str, Sequence[Demo]]) -> list[dict[str, Any]]:
    changed = [agent for agent in sorted({*before, *after}) if before.get(agent, []) != after.get(agent, [])]
    return [
        {
            "kind": "swap demos",
            "agent": agent,
            "old": [demo.input for demo in before.get(agent, [])],
            "new": [demo.input for demo in after.get(agent, [])],
        }
        for agent in changed
    ]
