"""What a model writes besides plain text, and how to read it: reasoning, and tool calls in its family's own marks.

Text is read leniently and never lost: whatever is not a whole, well-formed call stays content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from agentlightning.data.call import Message

Tools = Sequence[Mapping[str, Any]]


class ToolCall(msgspec.Struct, frozen=True):
    """A call as the model wrote it."""

    name: str
    arguments: dict[str, Any]


class Said(msgspec.Struct, frozen=True):
    """An answer's text, taken apart."""

    content: str
    tool_calls: list[ToolCall] = []
    reasoning: str = ""

    def message(self, ids: Sequence[str]) -> Message:
        """In the chat-completions shape; `ids` name the tool calls."""
        message: Message = {"role": "assistant", "content": self.content or (None if self.tool_calls else "")}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [_wire(call, id) for call, id in zip(self.tool_calls, ids, strict=True)]
        return message


class ToolFormat(Protocol):
    """One family's way of writing tool calls."""

    name: str
    id_length: int | None
    """Of tool call ids, where the family's template insists on one."""

    def read(self, text: str, tools: Tools) -> Said:
        """Take an answer apart. Without tools nothing is a call."""
        ...

    def opening(self, name: str | None) -> str:
        """What an answer begins with that must be a tool call (of that tool); the model writes on from there."""
        ...

    def told(self, messages: list[Message], tools: Tools) -> tuple[list[Message], Tools]:
        """What the template is given; tools that it does not know are told of in the messages instead."""
        ...


def names_of(tools: Tools) -> set[str]:
    """The tools' names; they come in chat completions' form, or bare."""
    return {str(function_of(tool).get("name") or "") for tool in tools}


def function_of(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = tool.get("function")
    return inner if isinstance(inner, Mapping) else tool


def as_call(
    value: Any, known: Iterable[str], *, arguments: Sequence[str] = ("arguments", "parameters")
) -> ToolCall | None:
    """A JSON value as a call of a known tool; None for anything else."""
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in known:
        return None
    given = next((value[key] for key in arguments if key in value), {})
    if isinstance(given, str):
        given = read_object(given)
    return ToolCall(name, given) if isinstance(given, dict) else None


def read_object(text: str) -> Any:
    """The JSON value of a text; None when it is none."""
    try:
        return json.loads(text, strict=False)
    except ValueError:
        return None


def values_at(text: str, place: int) -> tuple[Any, int] | None:
    """The JSON value that starts at a place and where it ends; None when there is none."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, place)
    except ValueError:
        return None


def without_reasoning(text: str) -> tuple[str, str]:
    """What stood between think marks, and the rest. An answer cut off while thinking is all reasoning.

    A prompt may have opened the mark already.
    """
    head, mark, tail = text.partition("</think>")
    if mark:
        return head.replace("<think>", "", 1).strip("\n"), tail.lstrip("\n")
    if text.lstrip().startswith("<think>"):
        return text.lstrip().removeprefix("<think>").strip("\n"), ""
    return "", text


def _wire(call: ToolCall, id: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": id, "type": "function", "function": function}
