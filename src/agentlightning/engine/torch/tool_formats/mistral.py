"""Mistral's forms: `[TOOL_CALLS]` and a JSON list of calls, or (newer) `[TOOL_CALLS]name[ARGS]{…}` for each call.

Templates want tool call ids of nine letters and digits, and write them into the history; the model writes none.
"""

from __future__ import annotations

import json
import re

from agentlightning.data.call import Message
from agentlightning.engine.torch.tool_formats.base import (
    Said,
    ToolCall,
    Tools,
    as_call,
    names_of,
    values_at,
    without_reasoning,
)

_MARK = "[TOOL_CALLS]"
_NAMED = re.compile(r"\s*([\w.-]+)(?:\[CALL_ID\]\w+)?\[ARGS\]\s*")


class Mistral:
    """Calls after `[TOOL_CALLS]`."""

    name = "mistral"
    id_length: int | None = 9

    def __init__(self, *, is_named: bool = False) -> None:
        self._is_named = is_named
        """The newer form is the one to open answers with; both are read."""

    def read(self, text: str, tools: Tools) -> Said:
        reasoning, rest = without_reasoning(text)
        content, mark, written = rest.partition(_MARK)
        calls = (_listed(written, tools) or _named(written, tools)) if mark and tools else None
        return Said(content.strip(), calls, reasoning) if calls else Said(rest, [], reasoning)

    def opening(self, name: str | None) -> str:
        if self._is_named:
            return _MARK + (f"{name}[ARGS]" if name else "")
        return f"{_MARK} [" + (f'{{"name": {json.dumps(name)}, "arguments": ' if name else '{"name": "')

    def told(self, messages: list[Message], tools: Tools) -> tuple[list[Message], Tools]:
        return messages, tools


def _listed(text: str, tools: Tools) -> list[ToolCall] | None:
    """A JSON list of calls, with nothing after it."""
    start = len(text) - len(text.lstrip())
    found = values_at(text, start)
    if not found or not isinstance(found[0], list) or text[found[1] :].strip():
        return None
    calls = [as_call(value, names_of(tools)) for value in found[0]]
    return [call for call in calls if call] if all(calls) else None


def _named(text: str, tools: Tools) -> list[ToolCall] | None:
    """Name, mark and arguments, once per call."""
    calls = list[ToolCall]()
    for part in text.split(_MARK):
        name = _NAMED.match(part)
        found = values_at(part, name.end()) if name else None
        if not name or not found or part[found[1] :].strip():
            return None
        call = as_call({"name": name[1], "arguments": found[0]}, names_of(tools))
        if call is None:
            return None
        calls.append(call)
    return calls
