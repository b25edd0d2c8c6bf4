"""Qwen's and Hermes' form: each call is JSON between `<tool_call>` and `</tool_call>`; text may stand before them."""

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
    read_object,
    without_reasoning,
)

_BLOCK = re.compile(r"\n?<tool_call>(.*?)</tool_call>", re.DOTALL)


class Hermes:
    """Calls in `<tool_call>` blocks."""

    name = "hermes"
    id_length: int | None = None

    def read(self, text: str, tools: Tools) -> Said:
        reasoning, rest = without_reasoning(text)
        known, calls = names_of(tools), list[ToolCall]()

        def taken(block: re.Match[str]) -> str:
            call = as_call(read_object(block[1]), known)
            if call is None:
                return block[0]
            calls.append(call)
            return ""

        content = _BLOCK.sub(taken, rest) if tools else rest
        return Said(content.rstrip() if calls else content, calls, reasoning)

    def opening(self, name: str | None) -> str:
        return "<tool_call>\n" + (f'{{"name": {json.dumps(name)}, "arguments": ' if name else '{"name": "')

    def told(self, messages: list[Message], tools: Tools) -> tuple[list[Message], Tools]:
        return messages, tools
