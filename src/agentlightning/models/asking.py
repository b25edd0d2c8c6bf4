"""How a question of ours is written in a dialect, and what an endpoint was found to accept of it.

The dialects themselves translate; here stand only the words each has for our few wishes. A wish an endpoint refuses is
left out, asked for by another name, or made smaller, as its refusal says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from agentlightning.data.call import Call, Message
from agentlightning.interception.dialects import Body, ChatCompletions, Dialect, Messages, OllamaChat, Responses
from agentlightning.models.endpoint import Endpoint

_CLAUDE_ANSWER = 8192
"""Messages does not answer without a cap. Most models may write more; those that may not say how much they may."""
_CAP = re.compile(r"max_tokens\D{1,20}(\d+) > (\d+)")
_SIZE = re.compile(r"too large|maximum context|context length|context window", re.IGNORECASE)


class _Words(NamedTuple):
    """A dialect, a request in it that says nothing yet, and its words for what we wish."""

    dialect: Dialect
    blank: Body
    names: Mapping[str, str]


_SAME = {name: name for name in ("temperature", "max_tokens", "seed")}
_WORDS = {
    "chat": _Words(ChatCompletions(), {"messages": []}, _SAME),
    "responses": _Words(
        Responses(),
        {"input": [], "store": False},
        {"temperature": "temperature", "max_tokens": "max_output_tokens", "store": "store"},
    ),
    "messages": _Words(
        Messages(),
        {"messages": [], "max_tokens": _CLAUDE_ANSWER},
        {"temperature": "temperature", "max_tokens": "max_tokens"},
    ),
    "ollama": _Words(OllamaChat(), {"messages": [], "stream": False}, _SAME | {"max_tokens": "num_predict"}),
}


class Accepted(msgspec.Struct, frozen=True):
    """What an endpoint was found to refuse, and so is not asked again."""

    left_out: frozenset[str] = frozenset()
    cap: int | None = None
    """The most tokens it lets an answer have, where it said so."""


def dialect_of(endpoint: Endpoint) -> Dialect:
    """What is spoken there."""
    return _WORDS[endpoint.dialect].dialect


def question(endpoint: Endpoint, messages: list[Message], wishes: Mapping[str, Any], accepted: Accepted) -> Body:
    """The body of a request. `wishes`: temperature, max_tokens, seed; what a dialect has no word for is not said."""
    words = _WORDS[endpoint.dialect]
    blank: Body = {"model": endpoint.model, **words.blank}
    before = words.dialect.call(blank, "")
    params = {**before.params, **_wanted(endpoint, wishes, accepted)}
    if "store" in accepted.left_out:
        params.pop("store", None)
    after = Call(agent="", model=endpoint.model, messages=messages, params=params, stream=before.stream)
    return words.dialect.rewrite(blank, before, after)


def after_refusal(endpoint: Endpoint, accepted: Accepted, sent: Body, told: Body, text: str) -> Accepted | None:
    """What to go by instead, should the refusal be about a wish of ours; None when asking differently cannot help.

    `sent` is the request, `told` the error it was answered with, and `text` all of that answer.
    """
    if endpoint.dialect == "messages" and (found := _CAP.search(text)):
        return None if accepted.cap is not None else msgspec.structs.replace(accepted, cap=int(found[2]))
    blamed = str(told.get("param") or "").split(".")[0]
    flat = sent | sent.get("options", {})
    for wish, name in _WORDS[endpoint.dialect].names.items():
        is_blamed = blamed == name or (not blamed and re.search(rf"\b{name}\b", text))
        is_size = wish == "max_tokens" and _SIZE.search(text)
        if name in flat and is_blamed and not is_size and wish not in accepted.left_out:
            return msgspec.structs.replace(accepted, left_out=accepted.left_out | {wish})
    return None


def _wanted(endpoint: Endpoint, wishes: Mapping[str, Any], accepted: Accepted) -> dict[str, Any]:
    names = _WORDS[endpoint.dialect].names
    kept = {
        names[wish]: value
        for wish, value in wishes.items()
        if value is not None and wish in names and wish not in accepted.left_out
    }
    if endpoint.dialect == "chat" and "max_tokens" in accepted.left_out and wishes.get("max_tokens") is not None:
        kept["max_completion_tokens"] = wishes["max_tokens"]
    if endpoint.dialect == "messages":
        if "temperature" in kept:
            kept["temperature"] = min(kept["temperature"], 1.0)  # where its scale ends
        if accepted.cap is not None:
            kept["max_tokens"] = min(kept.get("max_tokens", accepted.cap), accepted.cap)
    return kept
