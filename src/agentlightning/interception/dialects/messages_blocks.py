"""The content blocks of the Messages format, and the messages they make.

One message there can be several of ours: each tool result in a user's turn is a message of its own. A `Turn` is such a
part of a message: the blocks, and what we make of them. Blocks of a kind we do not know are content parts, untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from agentlightning.data.call import Message
from agentlightning.interception.dialects.splice import refilled, spliced
from agentlightning.interception.dialects.values import (
    Body,
    answer,
    arguments_object,
    arguments_text,
    as_object,
    as_objects,
    as_text,
    content_parts,
    tool_call,
)


class Turn(NamedTuple):
    """Content that makes one of our messages, and the index of the wire message it came in."""

    place: int
    content: Any
    message: Message


def turns(messages: list[Body]) -> Iterator[Turn]:
    """Every message's turns, in order."""
    for place, wire in enumerate(messages):
        role, content = as_text(wire.get("role")), wire.get("content")
        if role == "assistant" or not isinstance(content, list) or not any(map(_is_result, content)):
            yield Turn(place, content, _message(role, content))
            continue
        for is_result, blocks in groupby(content, key=_is_result):
            if is_result:
                yield from (Turn(place, [block], _result(block)) for block in blocks)
            else:
                found = list(blocks)
                yield Turn(place, found, _message(role, found))


def answer_of(blocks: list[Any]) -> Message:
    """The assistant's message that these blocks make."""
    return answer(
        [part_of(block) for block in blocks if _field(block) == "content"],
        reasoning="\n\n".join(as_text(b.get("thinking")) for b in as_objects(blocks) if b.get("type") == "thinking"),
        calls=[_call_of(block) for block in blocks if _field(block) == "tool_calls"],
    )


def content_of(message: Message) -> Any:
    """A new message's content. Reasoning is left out: only the model's own, signed, can be given back to it."""
    content = message.get("content")
    if message.get("role") == "tool":
        id = as_text(message.get("tool_call_id"))
        return [{"type": "tool_result", "tool_use_id": id, "content": _written(content)}]
    calls = call_blocks(message)
    return [*text_blocks(message), *calls] if calls else _written(content)


def edited(turn: Turn, after: Message) -> Any:
    """A turn's content, now that its message has changed."""
    before = turn.message
    if before.get("role") != after.get("role"):
        return content_of(after)
    if after.get("role") == "tool":
        [block] = turn.content
        return [{**block, "content": _edited(block.get("content"), before, after)}]
    if after.get("role") != "assistant":
        return _edited(turn.content, before, after)
    if isinstance(turn.content, str) and not after.get("tool_calls"):
        return _written(after.get("content"))
    fresh: dict[str, list[Any]] = {}
    if before.get("content") != after.get("content"):
        fresh["content"] = text_blocks(after)
    if before.get("reasoning_content") != after.get("reasoning_content"):
        fresh["reasoning"] = []
    if before.get("tool_calls") != after.get("tool_calls"):
        known = {as_text(block.get("id")): block for block in as_objects(turn.content)}
        fresh["tool_calls"] = [known.get(block["id"], {}) | block for block in call_blocks(after)]
    return refilled(content_parts(turn.content), _field, fresh)


def text_blocks(message: Message) -> list[Any]:
    """What an assistant says. Empty text is left out: the format refuses it."""
    blocks = [block_of(part) for part in content_parts(message.get("content"))]
    return [block for block in blocks if as_object(block).get("text") != ""]


def call_blocks(message: Message) -> list[Body]:
    """An assistant's tool calls as blocks."""
    blocks: list[Body] = []
    for call in as_objects(message.get("tool_calls")):
        given = as_object(call.get("function") or call.get("custom"))
        arguments = arguments_object(given.get("arguments", given.get("input")))
        name = as_text(given.get("name"))
        blocks.append({"type": "tool_use", "id": as_text(call.get("id")), "name": name, "input": arguments})
    return blocks


def part_of(block: Any) -> Any:
    """A content part as our messages keep it. Text blocks are one already, with all they carry (cache_control)."""
    source = as_object(as_object(block).get("source"))
    if as_object(block).get("type") != "image" or source.get("type") not in ("base64", "url"):
        return block
    if source["type"] == "url":
        url = as_text(source.get("url"))
    else:
        url = f"data:{as_text(source.get('media_type'))};base64,{as_text(source.get('data'))}"
    return {"type": "image_url", "image_url": {"url": url}}


def block_of(part: Any) -> Any:
    """A content part as this format writes it."""
    image = as_object(as_object(part).get("image_url"))
    if as_object(part).get("type") != "image_url":
        return part
    url = as_text(image.get("url"))
    kind, separator, data = url.removeprefix("data:").partition(";base64,")
    if separator and url.startswith("data:"):
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    return {"type": "image", "source": {"type": "url", "url": url}}


def _message(role: str, content: Any) -> Message:
    if role == "assistant" and isinstance(content, list):
        return answer_of(content)
    return {"role": role, "content": _told(content)}


def _result(block: Body) -> Message:
    content = _told(block.get("content", ""))
    message: Message = {"role": "tool", "tool_call_id": as_text(block.get("tool_use_id")), "content": content}
    return message | ({"is_error": True} if block.get("is_error") else {})


def _is_result(block: Any) -> bool:
    return as_object(block).get("type") == "tool_result"


def _field(block: Any) -> str:
    kind = as_object(block).get("type")
    if kind == "tool_use":
        return "tool_calls"
    return "reasoning" if kind in ("thinking", "redacted_thinking") else "content"


def _call_of(block: Body) -> Body:
    return tool_call(as_text(block.get("id")), block.get("name"), arguments_text(block.get("input", {})))


def _told(content: Any) -> Any:
    return [part_of(block) for block in content] if isinstance(content, list) else content


def _written(content: Any) -> Any:
    return [block_of(part) for part in content] if isinstance(content, list) else content


def _edited(wire: Any, before: Message, after: Message) -> Any:
    old, new = before.get("content"), after.get("content")
    if not isinstance(wire, list) or not isinstance(old, list) or not isinstance(new, list):
        return _written(new)
    return spliced(wire, old, new, new=block_of, edit=lambda _, __, part: block_of(part))
