"""Anthropic's Messages format: requests as calls and back. Its answers are read and written in `messages_answer`.

The `system` field is the first message, of role `system`; text stays text and blocks stay blocks, with what they carry
(`cache_control`). Tool results are messages of role `tool` here, blocks of a user's turn there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from agentlightning.data.call import Call, Message, Reply
from agentlightning.interception.dialects import messages_answer, tools
from agentlightning.interception.dialects.base import ServerSentEvents, error_kind, rewritten_fields
from agentlightning.interception.dialects.messages_blocks import Turn, content_of, edited, turns
from agentlightning.interception.dialects.splice import origins
from agentlightning.interception.dialects.values import Body, as_objects, as_text, content_parts, required_objects

_CALL_FIELDS = ("model", "system", "messages", "tools", "stream")
_NEW_RESULTS = "tool results"


class Messages(ServerSentEvents):
    """`POST …/v1/messages` (neither `/count_tokens` nor `/batches`)."""

    name = "messages"
    path_suffix = "/v1/messages"
    marks: tuple[bytes, ...] = (b'"messages"', b'"max_tokens"')
    stream_end = re.compile(rb"^event: ?message_stop\b", re.MULTILINE)

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        wires = required_objects(body, "messages", "a Messages")
        return Call(
            agent=agent,
            model=as_text(body.get("model")),
            messages=[*_system(body), *(turn.message for turn in turns(wires))],
            tools=[tools.from_schema(tool) for tool in as_objects(body.get("tools"))],
            params={key: value for key, value in body.items() if key not in _CALL_FIELDS},
            stream=bool(body.get("stream")),
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = rewritten_fields(body, before, after)
        if after.tools != before.tools:
            changed["tools"] = tools.rewritten(
                as_objects(body.get("tools")), before.tools, after.tools, tools.to_schema, tools.from_schema
            )
        if after.messages != before.messages:
            _rewrite_messages(changed, body, before.messages, after.messages)
        return changed

    def reply(self, body: Body) -> Reply:
        return messages_answer.read(body)

    def assemble(self, events: Iterable[Body]) -> Reply:
        return messages_answer.assembled(events)

    def refuse(self, message: str, status: int, code: str | None = None) -> Body:
        return {"type": "error", "error": {"type": error_kind(status), "message": message}}

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        return messages_answer.response(reply, call, id=id)

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        return messages_answer.stream(reply, call, id=id)


def _system(body: Body) -> list[Message]:
    given: Any = body.get("system")
    return [{"role": "system", "content": given}] if given and isinstance(given, str | list) else []


def _rewrite_messages(changed: Body, body: Body, before: list[Message], after: list[Message]) -> None:
    """New instructions join the `system` field; every other message goes among the messages."""
    field = _system(body)
    wires: list[Turn | None] = [*(None for _ in field), *turns(body["messages"])]
    system: list[Any] = []
    conversation: list[tuple[Any, str, Any]] = []
    for message, origin in zip(after, origins(before, after), strict=True):
        wire = wires[origin] if origin is not None else None
        role = as_text(message.get("role"))
        if wire is not None and origin is not None:
            content = wire.content if before[origin] == message else edited(wire, message)
            conversation.append((wire.place, as_text(body["messages"][wire.place].get("role")), content))
        elif origin is not None or role in ("system", "developer"):
            system.append(message.get("content"))
        else:
            place: Any = _NEW_RESULTS if role == "tool" else object()
            conversation.append((place, "user" if role == "tool" else role, content_of(message)))
    if system != [message["content"] for message in field]:
        _put_system(changed, system)
    changed["messages"] = [_joined(body["messages"], list(parts)) for _, parts in groupby(conversation, lambda t: t[0])]


def _put_system(changed: Body, system: list[Any]) -> None:
    """One text stays text, blocks stay blocks; text that joins text is a paragraph of its own."""
    if not system:
        changed.pop("system", None)
    elif len(system) == 1:
        changed["system"] = system[0]
    elif all(isinstance(content, str) for content in system):
        changed["system"] = "\n\n".join(system)
    else:
        changed["system"] = [block for content in system for block in content_parts(content)]


def _joined(wires: list[Body], parts: list[tuple[Any, str, Any]]) -> Body:
    """One message again out of its turns."""
    place, role, content = parts[0]
    if len(parts) > 1:
        content = [block for _, _, content in parts for block in content_parts(content)]
    return {**wires[place], "content": content} if isinstance(place, int) else {"role": role, "content": content}
