"""Ollama's messages and answers, read and written. Arguments of tool calls are objects there, and images base64 text.

Timings are left out of what is written: nobody measured them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from agentlightning.data.call import Call, Message, Reply, Usage, message_text
from agentlightning.errors import DataError
from agentlightning.interception.dialects import streams
from agentlightning.interception.dialects.values import (
    Body,
    arguments_object,
    arguments_text,
    as_count,
    as_list,
    as_object,
    as_objects,
    as_text,
    tool_call,
)

AnswerField = Literal["message", "response"]
"""Where an answer stands: the message of a chat, or the text of a generated response."""

_IMAGE_STARTS = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
_NAMES = {"reasoning_content": "thinking", "name": "tool_name"}


def told(message: Body) -> Message:
    """A message of theirs as one of ours."""
    calls = [_call_of(call) for call in as_objects(message.get("tool_calls"))]
    content: Any = message.get("content")
    if images := [_image(data) for data in as_list(message.get("images")) if isinstance(data, str)]:
        content = [*([{"type": "text", "text": content}] if content else []), *images]
    ours: Message = {"role": as_text(message.get("role")), "content": (content or None) if calls else content}
    if ours["role"] == "tool":
        ours["tool_call_id"] = as_text(message.get("tool_call_id"))
    for name, theirs in _NAMES.items():
        if given := as_text(message.get(theirs)):
            ours[name] = given
    return ours | ({"tool_calls": calls} if calls else {})


def written(message: Message) -> Body:
    """A message of ours as one of theirs."""
    role, parts = as_text(message.get("role")), as_objects(message.get("content"))
    theirs: Body = {"role": "system" if role == "developer" else role, "content": message_text(message)}
    if images := [_data(part) for part in parts if part.get("type") == "image_url"]:
        theirs["images"] = images
    if calls := as_objects(message.get("tool_calls")):
        theirs["tool_calls"] = [_written_call(call) for call in calls]
    if id := as_text(message.get("tool_call_id")):
        theirs["tool_call_id"] = id
    return theirs | {_NAMES[name]: message[name] for name in _NAMES if message.get(name)}


def read(body: Body) -> Reply:
    """The reply of a complete response. DataError when it is none."""
    if isinstance(body.get("message"), dict):
        given = as_object(body["message"])
    elif isinstance(body.get("response"), str):
        given = {"content": body["response"], "thinking": body.get("thinking")}
    else:
        raise DataError(f"an Ollama response has neither 'message' nor 'response': {str(body)[:200]}")
    message = told({"content": None, **given, "role": "assistant"})
    reason = as_text(body.get("done_reason")) or ("stop" if body.get("done") is True else None)
    return Reply(
        message=message,
        finish_reason="tool_calls" if reason == "stop" and "tool_calls" in message else reason,
        usage=_usage(body),
        model=as_text(body.get("model")),
    )


def assembled(events: Iterable[Body]) -> Reply:
    """The reply that a stream's lines add up to."""
    last: Body = {}
    texts: dict[str, list[str]] = {"content": [], "thinking": []}
    calls: list[Any] = []
    for event in events:
        given = as_object(event.get("message")) or {**event, "content": event.get("response")}
        for field, found in texts.items():
            found.append(as_text(given.get(field)))
        calls += as_list(given.get("tool_calls"))
        last |= event
    message = {field: "".join(found) for field, found in texts.items()} | {"tool_calls": calls}
    return read(last | {"message": message})


def response(reply: Reply, call: Call, *, created: float, field: AnswerField) -> Body:
    """The response that gives `reply`."""
    message = written(reply.message)
    return _frame(reply, call, created) | _shown(message, field) | _ending(reply)


def stream(reply: Reply, call: Call, *, created: float, field: AnswerField) -> Iterator[bytes]:
    """The same as lines."""
    frame, message = _frame(reply, call, created), written(reply.message)
    empty: Body = {"role": "assistant", "content": ""}
    for name in ("thinking", "content"):
        for piece in streams.pieces(as_text(message.get(name))):
            yield streams.line(frame | _shown(empty | {name: piece}, field) | {"done": False})
    if "tool_calls" in message:
        yield streams.line(frame | _shown(empty | {"tool_calls": message["tool_calls"]}, field) | {"done": False})
    yield streams.line(frame | _shown(empty, field) | _ending(reply))


def _shown(message: Body, field: AnswerField) -> Body:
    if field == "message":
        return {"message": message}
    thinking = {"thinking": message["thinking"]} if "thinking" in message else {}
    return {"response": message["content"]} | thinking


def _frame(reply: Reply, call: Call, created: float) -> Body:
    at = datetime.fromtimestamp(created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return {"model": reply.model or call.model, "created_at": at}


def _ending(reply: Reply) -> Body:
    reason = reply.finish_reason or "stop"
    ending: Body = {"done": True, "done_reason": "stop" if reason == "tool_calls" else reason}
    if reply.usage is not None:
        ending |= {"prompt_eval_count": reply.usage.input_tokens, "eval_count": reply.usage.output_tokens}
    return ending


def _usage(body: Body) -> Usage | None:
    if "prompt_eval_count" not in body and "eval_count" not in body:
        return None
    return Usage(as_count(body.get("prompt_eval_count")), as_count(body.get("eval_count")))


def _call_of(call: Body) -> Body:
    function = as_object(call.get("function"))
    return tool_call(as_text(call.get("id")), function.get("name"), arguments_text(function.get("arguments", {})))


def _written_call(call: Body) -> Body:
    function = as_object(call.get("function"))
    arguments = arguments_object(function.get("arguments"))
    named = {"function": {"name": as_text(function.get("name")), "arguments": arguments}}
    return ({"id": call["id"]} if call.get("id") else {}) | named


def _image(data: str) -> Body:
    kind = next((kind for start, kind in _IMAGE_STARTS.items() if data.startswith(start)), "application/octet-stream")
    return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}


def _data(part: Body) -> str:
    url = as_text(as_object(part.get("image_url")).get("url"))
    return url.partition(";base64,")[2] if url.startswith("data:") else url
