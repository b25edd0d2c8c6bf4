"""OpenAI's Responses format: requests as calls and back. Its answers are read and written in `responses_answer`.

The instructions are the first message, of role `system`; system and developer items of the input stand where they
stand. With `previous_response_id` (which stays a parameter) the messages are only the new ones, and the instructions
still apply: the provider carries none over. Function tools are flat here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from agentlightning.data.call import Call, Message, Reply, message_text
from agentlightning.errors import DataError
from agentlightning.interception.dialects import responses_answer, tools
from agentlightning.interception.dialects.base import ServerSentEvents, rewritten_fields
from agentlightning.interception.dialects.responses_items import Run, edited, items_of, message_of, runs
from agentlightning.interception.dialects.splice import origins
from agentlightning.interception.dialects.values import Body, as_object, as_objects, as_text, required_objects

_CALL_FIELDS = ("model", "instructions", "input", "tools", "stream", "stream_options")
_INSTEAD_OF_INPUT = ("instructions", "prompt", "previous_response_id", "conversation")


class Responses(ServerSentEvents):
    """`POST …/responses` (not the sub-resources of a response)."""

    name = "responses"
    path_suffix = "/responses"
    marks: tuple[bytes, ...] = (b'"input"',)
    stream_end = re.compile(rb"^event: ?response\.(completed|incomplete|failed)\b", re.MULTILINE)

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        first = [_instructions(body)] if _has_instructions(body) else []
        return Call(
            agent=agent,
            model=as_text(body.get("model")),
            messages=[*first, *(message_of(run) for run in _input(body))],
            tools=[tools.from_flat(tool) for tool in as_objects(body.get("tools"))],
            params={key: value for key, value in body.items() if key not in _CALL_FIELDS},
            stream=bool(body.get("stream")),
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = rewritten_fields(body, before, after)
        if after.tools != before.tools:
            changed["tools"] = tools.rewritten(
                as_objects(body.get("tools")), before.tools, after.tools, tools.to_flat, tools.from_flat
            )
        if after.messages != before.messages:
            _rewrite_messages(changed, body, before.messages, after.messages)
        return changed

    def reply(self, body: Body) -> Reply:
        return responses_answer.read(body)

    def assemble(self, events: Iterable[Body]) -> Reply:
        return responses_answer.assembled(events)

    def failure(self, body: Body) -> str | None:
        if body.get("type") == "error" and "error" not in body:
            return as_text(body.get("message")) or str(body)
        return super().failure(body) or super().failure(as_object(body.get("response")))

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        return responses_answer.response(reply, call, id=id, created=created)

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        return responses_answer.stream(reply, call, id=id, created=created)


def _has_instructions(body: Body) -> bool:
    return bool(as_text(body.get("instructions")))


def _instructions(body: Body) -> Message:
    return {"role": "system", "content": body["instructions"]}


def _input(body: Body) -> list[Run]:
    given = body.get("input")
    if isinstance(given, str):
        return [[{"role": "user", "content": given}]]
    if given is None and any(body.get(field) for field in _INSTEAD_OF_INPUT):
        return []
    if given is None:
        raise DataError("a Responses request has no 'input'")
    return list(runs(required_objects(body, "input", "a Responses")))


def _rewrite_messages(changed: Body, body: Body, before: list[Message], after: list[Message]) -> None:
    """New instructions go where the format has a place for them; every other message into the input."""
    wires: list[Run | None] = [*([None] if _has_instructions(body) else []), *_input(body)]
    instructions: list[str] = []
    items: Run = []
    for place, (message, origin) in enumerate(zip(after, origins(before, after), strict=True)):
        wire = wires[origin] if origin is not None else None
        is_first = origin is None and place == 0 and message.get("role") == "system"
        if is_first or (origin is not None and wire is None):
            instructions.append(message_text(message))
        elif wire is None:
            items += items_of(message)
        else:
            assert origin is not None
            items += wire if before[origin] == message else edited(wire, before[origin], message)
    if instructions:
        changed["instructions"] = "\n\n".join(instructions)
    elif _has_instructions(body):
        del changed["instructions"]
    if items or "input" in body:
        changed["input"] = _as_written(body.get("input"), items)


def _as_written(given: Any, items: Run) -> Any:
    """The input; one text stays the one text it was."""
    is_one_text = isinstance(given, str) and len(items) == 1 and items[0].keys() == {"role", "content"}
    if is_one_text and items[0]["role"] == "user" and isinstance(items[0]["content"], str):
        return items[0]["content"]
    return items
