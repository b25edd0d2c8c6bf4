"""Values that come from outside, taken as the type they should have; what is of another type counts as absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentlightning.data.call import Message
from agentlightning.errors import DataError

Body = dict[str, Any]
_decode = msgspec.json.Decoder().decode


def decode_object(content: bytes | str) -> Body:
    """The JSON object that some bytes are; DataError when they are none."""
    try:
        body = _decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DataError(f"it is no JSON ({error}): {content[:80]!r}") from error
    if not isinstance(body, dict):
        raise DataError(f"it is no JSON object: {content[:80]!r}")
    return body


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def as_count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def as_object(value: Any) -> Body:
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[Body]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_ids(value: Any) -> list[int] | None:
    """Token ids, or None when the server sent none."""
    return value if isinstance(value, list) and all(type(entry) is int for entry in value) else None


def as_logprobs(entries: Any) -> list[float] | None:
    """The log probability of each entry of an OpenAI-style `logprobs` list, or None when there is none."""
    found = [entry.get("logprob") for entry in as_objects(entries)]
    return [float(p) for p in found if isinstance(p, int | float) and abs(p) < 2**53] if found else None


def required_objects(body: Body, field: str, what: str) -> list[Body]:
    """A field that must be a list of objects, or the body is no such request: DataError."""
    value = body.get(field)
    if not isinstance(value, list) or not set(map(type, value)) <= {dict}:
        raise DataError(f"{what} request has no list of {field!r}")
    return value


def arguments_text(arguments: Any) -> str:
    """Tool arguments as the text that messages keep: an object as compact JSON, text that is none as it is."""
    if isinstance(arguments, str):
        try:
            arguments = decode_object(arguments)
        except DataError:
            return arguments
    return msgspec.json.encode(arguments).decode()


def arguments_object(text: Any) -> Body:
    """Tool arguments as an object, for formats that can carry nothing else.

    What a model wrote that is no object is kept as `{"arguments": text}`, which the tool will refuse by name.
    """
    if isinstance(text, dict):
        return text
    if not text:
        return {}
    try:
        return decode_object(text if isinstance(text, str) else str(text))
    except DataError:
        return {"arguments": text}


def tool_call(id: str, name: Any, arguments: str) -> Body:
    """A tool call as messages keep it."""
    return {"id": id, "type": "function", "function": {"name": as_text(name), "arguments": arguments}}


def answer(parts: list[Any], *, reasoning: str = "", refusal: str = "", calls: list[Body] | None = None) -> Message:
    """An assistant's message. Parts that are all text become one string, none None."""
    is_plain = all(isinstance(part, dict) and part.get("type") == "text" for part in parts)
    content: Any = "".join(as_text(part.get("text")) for part in parts) if is_plain else parts
    message: Message = {"role": "assistant", "content": content if parts else None}
    told: Mapping[str, Any] = {"reasoning_content": reasoning, "refusal": refusal, "tool_calls": calls}
    return message | {field: value for field, value in told.items() if value}


def content_parts(content: Any) -> list[Any]:
    """A message's content as parts, whichever way it is written."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return as_list(content)
