"""For models whose template knows no tools: we tell them in words to answer with JSON, and read that.

A call is an object `{"tool": …, "arguments": {…}}` on its own or in a fence, several are a list. Results go back as the
user's words, since such a template has no role for them.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentlightning.data.call import Message, message_text
from agentlightning.engine.torch.tool_formats.base import (
    Said,
    ToolCall,
    Tools,
    as_call,
    function_of,
    names_of,
    read_object,
    without_reasoning,
)

_FENCE = re.compile(r"```(?:json|tool_call)?\s*\n(.*?)\n?```", re.DOTALL)


class GenericJson:
    """Calls as JSON objects that are the whole answer, or a fenced block of it."""

    name = "generic"
    id_length: int | None = None

    def read(self, text: str, tools: Tools) -> Said:
        reasoning, rest = without_reasoning(text)
        if not tools:
            return Said(rest, [], reasoning)
        if calls := _calls(rest.strip(), tools):
            return Said("", calls, reasoning)
        for block in _FENCE.finditer(rest):
            if calls := _calls(block[1], tools):
                return Said((rest[: block.start()] + rest[block.end() :]).strip(), calls, reasoning)
        return Said(rest, [], reasoning)

    def opening(self, name: str | None) -> str:
        return f'{{"tool": {json.dumps(name)}, "arguments": ' if name else '{"tool": "'

    def told(self, messages: list[Message], tools: Tools) -> tuple[list[Message], Tools]:
        """Tools in the system message, calls and results as plain text."""
        plain = [_plain(message) for message in messages]
        if not tools:
            return plain, []
        if plain and plain[0].get("role") == "system":
            first = plain[0] | {"content": f"{message_text(plain[0])}\n\n{_instruction(tools)}"}
            return [first, *plain[1:]], []
        return [{"role": "system", "content": _instruction(tools)}, *plain], []


def _instruction(tools: Tools) -> str:
    listed = "\n".join(json.dumps(function_of(tool), ensure_ascii=False) for tool in tools)
    form = '{"tool": name, "arguments": {...}}'
    return (
        f"You can call these tools:\n{listed}\nTo call one, answer with nothing but JSON: {form}; a list for several."
    )


def _plain(message: Message) -> Message:
    if message.get("role") == "tool":
        return {"role": "user", "content": f"Tool result:\n{message_text(message)}"}
    if not message.get("tool_calls"):
        return message
    calls = [_written(call["function"]) for call in message["tool_calls"]]
    written = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=False)
    said = message_text(message)
    content = f"{said}\n```json\n{written}\n```" if said else written
    return {"role": "assistant", "content": content, **_kept(message)}


def _kept(message: Message) -> dict[str, Any]:
    return {key: message[key] for key in ("reasoning_content",) if key in message}


def _written(function: dict[str, Any]) -> dict[str, Any]:
    return {"tool": function["name"], "arguments": function["arguments"]}


def _calls(text: str, tools: Tools) -> list[ToolCall]:
    """All of the text as calls; none when any of it is something else."""
    value, known = read_object(text), names_of(tools)
    listed: list[Any] = value if isinstance(value, list) else [value]
    calls = [as_call(_named(item), known) for item in listed]
    return [call for call in calls if call] if calls and all(calls) else []


def _named(item: Any) -> Any:
    return item | {"name": item["tool"]} if isinstance(item, dict) and "tool" in item else item
