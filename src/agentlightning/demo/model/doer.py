"""Doing a labelling task: follow the rules read from the instructions, else examples, else common sense.

Deterministic for a given text. With `temperature` above zero, `seed` and the request's text decide when a rule slips.
"""

from __future__ import annotations

import json
from typing import Any

from agentlightning.demo.model.language import chance, identifiers
from agentlightning.demo.model.reader import Instructions, read
from agentlightning.demo.model.request import Answer, Request, ToolCall
from agentlightning.demo.model.rules import Rule, Situation
from agentlightning.demo.model.sense import is_small, likely_label, stems

CHATTY_SHARE = 0.25
"""How often a bare label is dressed in a sentence when nobody asked for the label only."""
CURIOUS_SHARE = 0.4
"""How often an offered look-up is used although nobody asked for it."""
DILIGENT_SHARE = 0.85
"""How often it is used when only a rule about its result asks for it."""
SLIP_SHARE = 0.06
"""How often, at temperature 1, the rule that applies is overlooked."""
LIKENESS = 0.4
"""From which overlap of telling words a worked example is copied."""


def label(request: Request) -> Answer | None:
    """One of the listed labels, or the tool call that is needed before deciding; None when no labels are listed."""
    instructions = read(request.instructions, tuple(str(function.get("name")) for function in request.functions))
    if not instructions.labels:
        return None
    if call := _tool_call(request, instructions):
        return Answer(None, (call,), "tool_calls")
    chosen = _choose(request, instructions)
    return Answer(_dress(chosen, request, instructions))


def _choose(request: Request, instructions: Instructions) -> str:
    situation = Situation.of(request.case, request.tool_results)
    fitting = [rule for rule in instructions.rules if rule.holds(situation) and not _slips(request, rule)]
    if fitting and fitting[0].condition:
        return fitting[0].label
    labels = list(instructions.labels)
    known = _from_examples(request, labels) or likely_label(situation.stems, labels)
    if known:
        return known
    return fitting[0].label if fitting else labels[int(chance("guess", request.case) * len(labels))]


def _slips(request: Request, rule: Rule) -> bool:
    share = SLIP_SHARE * (request.temperature or 0.0)
    return share > 0 and chance("slip", request.seed, request.text, rule.key) < share


def _from_examples(request: Request, labels: list[str]) -> str | None:
    """The label of the most similar worked example, when it is similar enough."""
    own = _telling(request.case)
    best, best_likeness = None, LIKENESS
    for asked, answered in request.examples:
        other = _telling(asked)
        likeness = len(own & other) / max(1, min(len(own), len(other)))
        if answered.strip().lower() in labels and likeness > best_likeness:
            best, best_likeness = answered.strip().lower(), likeness
    return best


def _telling(text: str) -> set[str]:
    return {word for word in stems(text) if not is_small(word)}


def _dress(chosen: str, request: Request, instructions: Instructions) -> str:
    shows_bare = any(answered.strip().lower() in instructions.labels for _, answered in request.examples)
    if instructions.wants_label_only or shows_bare or chance("form", request.case) >= CHATTY_SHARE:
        return chosen
    forms = ("I think this belongs to {}.", "This looks like a case for {}.", "Queue: {}", "The best queue is {} here.")
    return forms[int(chance("words", request.case) * len(forms))].format(chosen)


def _tool_call(request: Request, instructions: Instructions) -> ToolCall | None:
    if request.tool_results or request.tool_choice == "none":
        return None
    for function in request.functions:
        arguments = _arguments(function, request.case)
        if arguments is not None and _wants(request, instructions):
            key = chance("call", request.case, function["name"])
            return ToolCall(f"call_{int(key * 2**48):012x}", function["name"], json.dumps(arguments))
    return None


def _wants(request: Request, instructions: Instructions) -> bool:
    if request.tool_choice is not None and request.tool_choice != "auto":
        return True
    if instructions.lookup is not None:
        return instructions.lookup
    needs_result = any(atom.kind == "fact" for rule in instructions.rules for some in rule.condition for atom in some)
    return chance("look up", request.case) < (DILIGENT_SHARE if needs_result else CURIOUS_SHARE)


def _arguments(function: dict[str, Any], text: str) -> dict[str, str] | None:
    """The first identifier in the text, for a tool that wants exactly one; None when they do not fit."""
    parameters = function.get("parameters") or {}
    wanted = list(parameters.get("required") or parameters.get("properties") or [])
    found = identifiers(text)
    return {str(wanted[0]): found[0]} if len(wanted) == 1 and found else None
