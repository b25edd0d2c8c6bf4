"""Proposes instruction lines for the text-to-SQL agent, as an optimiser model would: from the runs it is shown.

It knows some pieces of general advice and not which of them are good; those that the reasons of failed runs hint at
come first, more often than not. What helps is for the search to measure.
"""

from __future__ import annotations

import math
import re

from agentlightning.demo.model.language import chance
from agentlightning.demo.model.reflection import Reflection, parse_reflection
from agentlightning.demo.model.request import Answer, Request
from agentlightning.demo.sql.lines import LINES, named

_HINTS = {
    "schema first": r"no such column|which no query returned",
    "try again": r"gave up after an error",
    "short query": r"wrong query",
    "think": r"wrong query|without asking",
    "answer right away": r"gave up",
    "expert": r"without asking",
}
"""Advice → what in a reason makes one think of it, rightly or not."""
_HINT_WEIGHT, _SPREAD = 0.5, 0.35


def answer(request: Request) -> Answer:
    """One line more in the instruction it was asked to improve; says so when it was asked anything else."""
    reflection = parse_reflection(request.asked)
    if reflection is None:
        return Answer("I only improve instructions.")
    site = reflection.sites[0]
    name = _choice(reflection, named(site.text), request)
    if name is None:
        return Answer(f"Idea: nothing to add.\n<instruction>\n{site.text}\n</instruction>")
    wordings = LINES[name]
    line = wordings[int(chance(request.text, request.seed, "wording") * len(wordings))]
    text = f"{site.text.rstrip()}\n{line}".lstrip()
    return Answer(f"Idea: {line}\n<instruction>\n{text}\n</instruction>")


def _choice(reflection: Reflection, present: list[str], request: Request) -> str | None:
    rejected = {name for idea in reflection.rejected for name, wordings in LINES.items() if idea.startswith(wordings)}
    reasons = [run.reason for run in reflection.runs if not run.is_passed]
    weights: dict[str, float] = {}
    for name in LINES:
        if name not in present and name not in rejected:
            hint = _HINTS.get(name)
            hinted = sum(bool(re.search(hint, reason)) for reason in reasons) / len(reasons) if hint and reasons else 0
            draw = chance(request.text, request.seed, name)
            weights[name] = _HINT_WEIGHT * hinted - _SPREAD * math.log(-math.log(min(max(draw, 1e-9), 1 - 1e-9)))
    return max(weights, key=lambda name: weights[name], default=None)
