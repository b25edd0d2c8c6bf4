"""A chat-completions request as the simulated model sees it, and the answer it gives back."""

from __future__ import annotations

import re
from functools import cached_property
from itertools import pairwise
from typing import Any

import msgspec

from agentlightning.data.call import message_text

_CASE_BEGINS = re.compile(
    r"(?:^|\n)[ \t]*(?:ticket|text|message|e-?mail|input|question|request)[ \t]*:\s*|\n\s*\n", re.IGNORECASE
)


class ToolCall(msgspec.Struct, frozen=True):
    """The model asks for a tool; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True):
    """Text or tool calls, and why it ended there."""

    text: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"


class Request(msgspec.Struct, frozen=True, dict=True):
    """A validated request body. Unknown parameters are allowed and ignored."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    tool_choice: Any = None
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None

    @cached_property
    def system(self) -> str:
        """All instruction messages, joined."""
        texts = (message_text(m) for m in self.messages if m.get("role") in ("system", "developer"))
        return "\n".join(text for text in texts if text)

    @cached_property
    def _last_user(self) -> int:
        return max((i for i, m in enumerate(self.messages) if m.get("role") == "user"), default=-1)

    @property
    def user(self) -> str:
        """The latest user message; empty when there is none."""
        return message_text(self.messages[self._last_user]) if self._last_user >= 0 else ""

    @cached_property
    def _prefix_and_case(self) -> tuple[str, str]:
        """A user message without a system message may carry instructions above the case itself."""
        begins = list(_CASE_BEGINS.finditer(self.user))
        if self.system or not begins:
            return "", self.user
        return self.user[: begins[-1].start()], self.user[begins[-1].end() :]

    @property
    def instructions(self) -> str:
        """The text to follow: the system messages, or without any the part of the user message above the case."""
        return self.system or self._prefix_and_case[0]

    @property
    def case(self) -> str:
        """The text to work on."""
        return self._prefix_and_case[1]

    @property
    def tool_results(self) -> list[str]:
        """What tools answered since the latest user message."""
        return [message_text(m) for m in self.messages[self._last_user + 1 :] if m.get("role") == "tool"]

    @property
    def examples(self) -> list[tuple[str, str]]:
        """Worked examples: user turns before the latest one, each with the answer that followed it."""
        earlier = self.messages[: max(self._last_user, 0)]
        return [
            (message_text(asked), message_text(answered))
            for asked, answered in pairwise(earlier)
            if asked.get("role") == "user" and answered.get("role") == "assistant" and message_text(answered)
        ]

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The offered tools' function parts."""
        return [tool["function"] for tool in self.tools if isinstance(tool.get("function"), dict)]

    @property
    def asked(self) -> str:
        """All user messages, without what the system or earlier answers said."""
        return "\n".join(message_text(message) for message in self.messages if message.get("role") == "user")

    @property
    def text(self) -> str:
        """Everything that was said, for dice and for recognising what kind of request this is."""
        return "\n".join(message_text(message) for message in self.messages)
