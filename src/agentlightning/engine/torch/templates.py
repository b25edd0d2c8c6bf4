"""A conversation as the text the model was trained to read: the chat template, fed with messages it accepts.

Agents speak the chat-completions form; templates want arguments as objects, text instead of parts, and some want ids of
a certain length.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from agentlightning.data.call import Message, message_text
from agentlightning.engine.torch.tool_formats import ToolFormat, Tools
from agentlightning.engine.torch.tool_formats.base import function_of, read_object
from agentlightning.errors import ModelError

_SENTINEL = "Xq7 the answer Xq7"


class ChatTemplate:
    """Renders messages. ModelError when there is no template, or it refuses them."""

    def __init__(self, tokenizer: Any, format: ToolFormat, *, source: str = "the model") -> None:
        self._tokenizer = tokenizer
        self._format = format
        self._source = source

    def render(
        self, messages: Sequence[Message], tools: Tools = (), *, opens: bool, options: Mapping[str, Any] | None = None
    ) -> str:
        """`opens`: the text ends where the assistant's answer begins. `options` are variables of the template."""
        from jinja2 import TemplateError

        self._require()
        prepared = [self._prepared(message) for message in messages]
        told, known = self._format.told(prepared, tools)
        try:
            return self._tokenizer.apply_chat_template(
                told,
                tools=[_wire_tool(tool) for tool in known] or None,
                tokenize=False,
                add_generation_prompt=opens,
                **(options or {}),
            )
        except (TemplateError, TypeError, KeyError, IndexError) as error:
            raise ModelError(f"the chat template of {self._source} refuses these messages: {error}") from error

    @cached_property
    def opener(self) -> str:
        """What the template writes before an answer."""
        return self._marks[0]

    @cached_property
    def closer(self) -> str:
        """What the template writes after an answer."""
        return self._marks[1]

    @cached_property
    def _marks(self) -> tuple[str, str]:
        asked: list[Message] = [{"role": "user", "content": "?"}]
        before = self.render(asked, opens=False)
        opener = self.render(asked, opens=True).removeprefix(before)
        said = self.render([*asked, {"role": "assistant", "content": _SENTINEL}], opens=False)
        _, found, closer = said.partition(_SENTINEL)
        return opener, closer if found else ""

    def _require(self) -> None:
        if not getattr(self._tokenizer, "chat_template", None):
            raise ModelError(
                f"{self._source} has no chat template, so it cannot be asked in messages. Use its instruct version, or "
                "set tokenizer.chat_template and save the tokenizer with the model."
            )

    def _prepared(self, message: Message) -> Message:
        """As templates want it. Only text can be told."""
        role = str(message.get("role") or "user")
        if role == "developer" and "developer" not in str(self._tokenizer.chat_template):
            role = "system"
        known = {key: value for key, value in message.items() if value is not None}
        ready = {**known, "role": role, "content": self._text(message)}
        if known.get("tool_calls"):
            ready["tool_calls"] = [self._call(call) for call in known["tool_calls"]]
        if role == "tool" and "tool_call_id" in known:
            ready["tool_call_id"] = self._id(str(known["tool_call_id"]))
        return ready

    def _text(self, message: Message) -> str:
        content: Any = message.get("content")
        kinds = (
            {str(part.get("type")) for part in content if isinstance(part, dict)} if isinstance(content, list) else ()
        )
        if other := sorted(kind for kind in kinds if kind.split("_")[-1] not in ("text", "refusal")):
            raise ModelError(f"{self._source} reads text only, and a message has parts of type {', '.join(other)}.")
        return message_text(message)

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        function = function_of(call)
        given = function.get("arguments")
        parsed = read_object(given) if isinstance(given, str) else given
        arguments = parsed if isinstance(parsed, dict) else given or {}
        named = {"name": str(function.get("name") or ""), "arguments": arguments}
        return {"type": "function", "id": self._id(str(call.get("id") or "")), "function": named}

    def _id(self, id: str) -> str:
        """An id that the template accepts; the same for a call and its result."""
        length = self._format.id_length
        if length is None or re.fullmatch(rf"[A-Za-z0-9]{{{length}}}", id):
            return id
        return hashlib.sha256(id.encode()).hexdigest()[:length]


def _wire_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """In chat completions' form, which templates are written for."""
    function = dict(function_of(tool))
    if "input_schema" in function:
        function["parameters"] = function.pop("input_schema")
    function.pop("type", None)
    return {"type": "function", "function": function}
