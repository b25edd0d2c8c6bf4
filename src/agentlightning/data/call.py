"""One model call and its answer, the same whatever wire format carried them.

Messages keep the chat-completions shape (`role`, `content`, `tool_calls`, `tool_call_id`), the one every dialect
translates into.
"""

from __future__ import annotations

from typing import Any

import msgspec

Message = dict[str, Any]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


class Call(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent asks a model."""

    agent: str
    model: str
    messages: list[Message]
    tools: list[dict[str, Any]] = []
    params: dict[str, Any] = {}
    """Everything else in the request: temperature, response_format, …"""
    stream: bool = False


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the model answered."""

    message: Message
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str = ""
    prompt_ids: list[int] | None = None
    completion_ids: list[int] | None = None
    logprobs: list[float] | None = None
    alternatives: list[Message] = []
    """The other answers, where several were asked for (`n`). The agent's own choice among them is not known."""

    @property
    def text(self) -> str:
        """The answer's text; empty when the model only called tools."""
        return message_text(self.message)


def message_text(message: Message) -> str:
    """The text of a message whose content is a string or a list of parts."""
    content: Any = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return ""
