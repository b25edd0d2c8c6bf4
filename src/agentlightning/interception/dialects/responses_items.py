"""The items of the Responses format, and the messages they make.

What a model gave in one turn comes as several items in a row: reasoning, text, function calls. Together they are one
assistant's message. Items of a kind we do not know (searches, references) stand in it as content parts, untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from agentlightning.data.call import Message
from agentlightning.interception.dialects.splice import refilled, spliced
from agentlightning.interception.dialects.values import (
    Body,
    answer,
    as_list,
    as_object,
    as_objects,
    as_text,
    content_parts,
    tool_call,
)

Run = list[Body]
"""The items that make one message."""

_CALLS = ("function_call", "custom_tool_call")
_TEXT_TYPES = ("input_text", "output_text", "text")


def runs(items: list[Body]) -> Iterator[Run]:
    """The items message by message."""
    for is_answer, found in groupby(items, key=_is_answer):
        if is_answer:
            yield list(found)
        else:
            yield from ([item] for item in found)


def message_of(run: Run) -> Message:
    """The message that a run of items makes."""
    item = run[0]
    if _is_answer(item):
        return answer_of(run)
    if _is_output(item):
        return {"role": "tool", "tool_call_id": as_text(item.get("call_id")), "content": _told(item.get("output"))}
    return {"role": as_text(item.get("role")), "content": _told(item.get("content"))}


def answer_of(items: Run) -> Message:
    """The assistant's message that all these items make."""
    parts: list[Any] = []
    reasoning: list[str] = []
    refusal: list[str] = []
    for item in items:
        field = _field(item)
        if field == "reasoning":
            thoughts = (*as_objects(item.get("summary")), *as_objects(item.get("content")))
            reasoning += (as_text(thought.get("text")) for thought in thoughts)
        elif field == "content" and not _is_message(item):
            parts.append(item)
        elif field == "content":
            said = _told(item.get("content"))
            parts += content_parts(said)
            refusal += (as_text(part.get("refusal")) for part in as_objects(said))
    return answer(
        [part for part in parts if as_object(part).get("type") != "refusal"],
        reasoning="\n\n".join(filter(None, reasoning)),
        refusal="".join(refusal),
        calls=[_call_of(item) for item in items if _field(item) == "tool_calls"],
    )


def items_of(message: Message) -> Run:
    """A new message as items of a request. Reasoning is left out: only the model's own can be given back to it."""
    role = as_text(message.get("role"))
    if role == "tool":
        output = _written(message.get("content"), role)
        return [
            {"type": "function_call_output", "call_id": as_text(message.get("tool_call_id")), "output": output or ""}
        ]
    if role != "assistant":
        return [{"role": role, "content": _written(message.get("content"), role)}]
    return [*text_items(message), *call_items(message)]


def edited(run: Run, before: Message, after: Message) -> Run:
    """The items of a message that has changed."""
    item = run[0]
    if after.get("role") != before.get("role"):
        return items_of(after)
    if not _is_answer(item):
        field = "output" if _is_output(item) else "content"
        return [{**item, field: _edited_content(item.get(field), before, after)}]
    fresh: dict[str, Run] = {}
    if any(before.get(field) != after.get(field) for field in ("content", "refusal")):
        fresh["content"] = [_in_place_of(run, entry) for entry in text_items(after)]
    if before.get("reasoning_content") != after.get("reasoning_content"):
        fresh["reasoning"] = []
    if before.get("tool_calls") != after.get("tool_calls"):
        known = {as_text(entry.get("call_id")): entry for entry in run if _field(entry) == "tool_calls"}
        fresh["tool_calls"] = [known.get(entry["call_id"], {}) | entry for entry in call_items(after)]
    return refilled(run, _field, fresh)


def text_items(message: Message) -> Run:
    """What an assistant says, as a message item; content parts that are items of their own stand beside it."""
    parts = content_parts(message.get("content"))
    own = [part for part in parts if _is_item(part)]
    said: Any = message.get("content")
    if not isinstance(said, str):
        said = [written_part(part, "assistant") for part in parts if not _is_item(part)]
    if refusal := as_text(message.get("refusal")):
        said = [{"type": "output_text", "text": said}] if isinstance(said, str) and said else as_list(said)
        said = [*said, {"type": "refusal", "refusal": refusal}]
    return [*own, *([{"role": "assistant", "content": said}] if said else [])]


def call_items(message: Message) -> Run:
    """An assistant's tool calls as items."""
    return [_call_item(call) for call in as_objects(message.get("tool_calls"))]


def written_part(part: Any, role: str) -> Any:
    """A content part as this format writes it."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": as_text(part.get("text"))}
    if kind == "image_url":
        return {"type": "input_image"} | _renamed(as_object(part.get("image_url")), "url", "image_url")
    if kind == "file":
        return {"type": "input_file"} | as_object(part.get("file"))
    return part


def _is_answer(item: Body) -> bool:
    return not _is_output(item) and not (_is_message(item) and item["role"] != "assistant")


def _is_message(item: Body) -> bool:
    return item.get("type") in (None, "message") and "role" in item


def _is_output(item: Body) -> bool:
    return as_text(item.get("type")).endswith("_output") and "call_id" in item


def _is_item(part: Any) -> bool:
    """Is this content part an item that came in place of one? Items have types no content part has."""
    kind = as_text(as_object(part).get("type"))
    return not kind.startswith(("input_", "output_")) and kind not in ("text", "refusal", "image_url", "file")


def _field(item: Body) -> str:
    kind = as_text(item.get("type"))
    return "tool_calls" if kind in _CALLS else "reasoning" if kind == "reasoning" else "content"


def _in_place_of(run: Run, item: Body) -> Body:
    """A new message item under the id of the old one: the provider holds it against the reasoning before it."""
    old = next((entry for entry in run if _is_message(entry)), None)
    if old is None or not _is_message(item):
        return item
    if isinstance(old.get("content"), list) and isinstance(item["content"], str):
        item = item | {"content": [{"type": "output_text", "text": item["content"], "annotations": []}]}
    return old | item


def _call_of(item: Body) -> Body:
    id = as_text(item.get("call_id"))
    if item["type"] == "function_call":
        return tool_call(id, item.get("name"), as_text(item.get("arguments")))
    custom = {"name": as_text(item.get("name")), "input": as_text(item.get("input"))}
    return {"id": id, "type": "custom", "custom": custom}


def _call_item(call: Body) -> Body:
    kind, name = ("custom_tool_call", "custom") if "custom" in call else ("function_call", "function")
    return {"type": kind, "call_id": as_text(call.get("id"))} | as_object(call.get(name))


def _told(content: Any) -> Any:
    return [_told_part(part) for part in content] if isinstance(content, list) else content


def _told_part(part: Any) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in _TEXT_TYPES:
        return {"type": "text", "text": as_text(part.get("text"))}
    if kind == "input_image" and "image_url" in part:
        image = {key: value for key, value in part.items() if key != "type"}
        return {"type": "image_url", "image_url": _renamed(image, "image_url", "url")}
    if kind == "input_file":
        return {"type": "file", "file": {key: value for key, value in part.items() if key != "type"}}
    return part


def _written(content: Any, role: str) -> Any:
    return [written_part(part, role) for part in content] if isinstance(content, list) else content


def _edited_content(wire: Any, before: Message, after: Message) -> Any:
    old, new = before.get("content"), after.get("content")
    if not isinstance(wire, list) or not isinstance(old, list) or not isinstance(new, list):
        return _written(new, as_text(after.get("role")))

    def edit(part: Any, _: Any, changed: Any) -> Any:
        if as_object(part).get("type") in _TEXT_TYPES and as_object(changed).get("type") == "text":
            return part | {"text": as_text(changed.get("text"))}
        return written_part(changed, as_text(after.get("role")))

    return spliced(wire, old, new, new=lambda part: written_part(part, as_text(after.get("role"))), edit=edit)


def _renamed(body: Body, old: str, new: str) -> Body:
    return {new if key == old else key: value for key, value in body.items()}
