"""From sampled rows to a reply: text read in the model's tool format, ids and logprobs as they were drawn."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from agentlightning.data.call import Reply, Usage
from agentlightning.engine.torch.prompts import Prompt
from agentlightning.engine.torch.row import Row
from agentlightning.engine.torch.tool_formats import Said, ToolFormat
from agentlightning.engine.torch.wishes import Wishes


class Reader:
    """Reads one tokenizer's answers."""

    def __init__(self, tokenizer: Any, format: ToolFormat) -> None:
        self._format = format
        marks = sorted(map(str, tokenizer.all_special_tokens), key=len, reverse=True)
        self._marks = re.compile("|".join(map(re.escape, marks)) if marks else r"(?!)")

    def said(self, text: str, wishes: Wishes) -> Said:
        """What an answer's text says. Special tokens that are left over are no content."""
        said = self._format.read(text, wishes.tools)
        calls = said.tool_calls if wishes.is_parallel else said.tool_calls[:1]
        return Said(self._marks.sub("", said.content), calls, self._marks.sub("", said.reasoning))

    def reply(self, rows: Sequence[Row], saids: Sequence[Said], prompt: Prompt, *, model: str) -> Reply:
        """The first row's answer, the others as alternatives."""
        messages = [said.message(self._ids(row, said)) for row, said in zip(rows, saids, strict=True)]
        first = rows[0]
        usage = Usage(
            input_tokens=len(prompt.ids),
            output_tokens=sum(len(row.logprobs) for row in rows),
            cached_tokens=first.num_cached_tokens,
        )
        return Reply(
            message=messages[0],
            finish_reason="tool_calls" if saids[0].tool_calls else first.finish_reason,
            usage=usage,
            model=model,
            prompt_ids=prompt.ids,
            completion_ids=first.completion_ids,
            logprobs=first.logprobs,
            alternatives=messages[1:],
        )

    def _ids(self, row: Row, said: Said) -> list[str]:
        """Of tool calls: the same for the same answer to the same prompt, and for no other."""
        content = msgspec.json.encode(row.ids)
        names = [hashlib.sha256(content + bytes([place % 256])).hexdigest() for place in range(len(said.tool_calls))]
        length = self._format.id_length
        return [name[:length] if length else f"call_{name[:20]}" for name in names]
