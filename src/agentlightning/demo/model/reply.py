"""One request, one answer: what is being asked for is recognised from the text, as any model does."""

from __future__ import annotations

import msgspec

from agentlightning.demo.model.chat import chat
from agentlightning.demo.model.doer import label
from agentlightning.demo.model.judge import judge
from agentlightning.demo.model.language import tokens
from agentlightning.demo.model.optimizer import improve
from agentlightning.demo.model.reflection import parse_reflection
from agentlightning.demo.model.request import Answer, Request


def answer(request: Request) -> Answer:
    """The simulated model's answer, cut at `max_tokens` with finish_reason "length". Same request, same answer."""
    return _cut(_whole(request), request.max_tokens)


def _whole(request: Request) -> Answer:
    if "<rubric>" in request.asked:
        return judge(request.asked)
    if reflection := parse_reflection(request.asked):
        return improve(request, reflection)
    return label(request) or chat(request)


def _cut(whole: Answer, max_tokens: int | None) -> Answer:
    if max_tokens is None or whole.text is None:
        return whole
    pieces = tokens(whole.text)
    if len(pieces) <= max_tokens:
        return whole
    return msgspec.structs.replace(whole, text="".join(pieces[:max_tokens]), finish_reason="length")
