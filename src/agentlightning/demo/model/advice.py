"""General advice for free-text answers, where no label is right or wrong: read from the reasons a judge gave."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentlightning.demo.model.induction import Idea
from agentlightning.demo.model.reader import Instructions
from agentlightning.demo.model.reflection import Reflection

_ADVICE = (
    (r"\blanguage\b|语言", "Answer in the language of the question."),
    (r"\bsentences?\b|\bconstraints?\b|一句话", "Keep to the form the question asks for, such as one sentence."),
    (r"\blong\w*|\bconcise\b|\bbrief\b|\bverbose\b|\bwordy\b", "Be concise."),
    (r"\bcode\b|\bexamples?\b", "Include a short example in code when the question asks how to do something."),
    (r"\bhedg\w*|\bpreamble\b|\bfiller\b|\bdirect\w*", "Start with the answer itself, without preamble."),
    (r"\btopic\b|\brelevan\w*|\bvague\b", "Name the subject of the question and stay on it."),
)


def advice_from(reflection: Reflection, instructions: Instructions) -> Iterator[Idea]:
    """Advice that the reasons of imperfect runs call for, as often as they do; a little of the rest as a guess."""
    if instructions.labels:
        return
    present = "\n".join(site.text for site in reflection.sites)
    reasons = [run.reason for run in reflection.runs if not run.is_passed or run.reason]
    for pattern, line in _ADVICE:
        called_for = sum(bool(re.search(pattern, reason, re.IGNORECASE)) for reason in reasons)
        if line not in present:
            yield Idea(line, 0.05 + 0.6 * called_for)
