"""Llama 3's form: the whole answer is one JSON object with `name` and `parameters`, sometimes after `<|python_tag|>`.

Several calls stand one after the other, parted by semicolons.
"""

from __future__ import annotations

import json

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

_MARK = "<|python_tag|>"


class Llama3:
    """Calls as bare JSON objects."""

    name = "llama3"
    id_length: int | None = None

    def read(self, text: str, tools: Tools) -> Said:
        reasoning, rest = without_reasoning(text)
        content, mark, written = rest.partition(_MARK)
        if not mark:
            content, written = "", rest
        calls = _calls(written.strip(), tools) if tools else None
        return Said(content.strip(), calls, reasoning) if calls else Said(rest, [], reasoning)

    def opening(self, name: str | None) -> str:
        return f'{{"name": {json.dumps(name)}, "parameters": ' if name else '{"name": "'

    def told(self, messages: list[Message], tools: Tools) -> tuple[list[Message], Tools]:
        return messages, tools


def _calls(text: str, tools: Tools) -> list[ToolCall] | None:
    """All of the text as calls; None when any of it is something else."""
    known, calls, place = names_of(tools), list[ToolCall](), 0
    while place < len(text):
        found = values_at(text, place)
        call = as_call(found[0], known, arguments=("parameters", "arguments")) if found else None
        if found is None or call is None:
            return None
        calls.append(call)
        place = found[1]
        while place < len(text) and text[place] in "; \n":
            place += 1
    return calls
