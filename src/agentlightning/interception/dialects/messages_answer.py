"""Answers in the Messages format, read and written, whole and as streams.

Input tokens are all that were read: the format counts those from the cache, and those written to it, apart.
Arguments of a tool call are an object here; text that is none is told as `{"arguments": text}`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.errors import DataError
from agentlightning.interception.dialects import streams
from agentlightning.interception.dialects.messages_blocks import answer_of, call_blocks, text_blocks
from agentlightning.interception.dialects.values import Body, arguments_text, as_count, as_object, as_objects, as_text

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_WRITTEN_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_TEXT_FIELDS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def read(body: Body) -> Reply:
    """The reply of a complete response. DataError when it has no content."""
    content = body.get("content")
    if not isinstance(content, list):
        raise DataError(f"a Messages response has no list of 'content': {str(body)[:200]}")
    reason = as_text(body.get("stop_reason"))
    return Reply(
        message=answer_of(content),
        finish_reason=_REASONS.get(reason, reason) or None,
        usage=_usage(body.get("usage")),
        model=as_text(body.get("model")),
    )


def assembled(events: Iterable[Body]) -> Reply:
    """The reply that a stream's events add up to."""
    body: Body = {}
    usage: Body = {}
    blocks: dict[int, Body] = {}
    texts: dict[tuple[int, str], list[str]] = {}
    for event in events:
        index = as_count(event.get("index"))
        match event.get("type"):
            case "message_start":
                body = as_object(event.get("message"))
                usage |= as_object(body.get("usage"))
            case "content_block_start":
                blocks[index] = as_object(event.get("content_block"))
            case "content_block_delta":
                delta = as_object(event.get("delta"))
                field = _TEXT_FIELDS.get(as_text(delta.get("type")), "")
                if text := as_text(delta.get(field)):
                    texts.setdefault((index, field), []).append(text)
            case "message_delta":
                body = body | as_object(event.get("delta"))
                usage |= {key: value for key, value in as_object(event.get("usage")).items() if value is not None}
            case _:
                pass
    content = [_grown(blocks[index], index, texts) for index in sorted(blocks)]
    return read(body | {"content": content, "usage": usage})


def response(reply: Reply, call: Call, *, id: str) -> Body:
    """The response that gives `reply`."""
    return _frame(reply, call, id) | _ending(reply) | {"content": _content(reply, id), "usage": _written_usage(reply)}


def stream(reply: Reply, call: Call, *, id: str) -> Iterator[bytes]:
    """The same as server-sent events."""
    for body in _events(reply, call, id):
        yield streams.event(body, name=body["type"])


def _events(reply: Reply, call: Call, id: str) -> Iterator[Body]:
    usage = _written_usage(reply)
    begun = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage | {"output_tokens": 0}}
    yield {"type": "message_start", "message": _frame(reply, call, id) | begun}
    for index, block in enumerate(_content(reply, id)):
        empty, deltas = _deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": _ending(reply), "usage": usage}
    yield {"type": "message_stop"}


def _deltas(block: Body) -> tuple[Body, list[Body]]:
    """A block before its first delta, and its deltas. A block of any other kind comes whole."""
    match block.get("type"):
        case "text":
            pieces = streams.pieces(as_text(block.get("text")))
            return block | {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
        case "thinking":
            pieces = streams.pieces(as_text(block.get("thinking")))
            signed = {"type": "signature_delta", "signature": block.get("signature")}
            told = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
            return block | {"thinking": "", "signature": ""}, [*told, signed]
        case "tool_use":
            pieces = streams.pieces(arguments_text(block.get("input")))
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        case _:
            return block, []


def _grown(block: Body, index: int, texts: dict[tuple[int, str], list[str]]) -> Body:
    """A block with what its deltas brought; a tool's input that was cut off stays the text it is."""
    grown = dict(block)
    for field in ("text", "thinking"):
        if (index, field) in texts:
            grown[field] = as_text(block.get(field)) + "".join(texts[index, field])
    if (index, "partial_json") in texts:
        grown["input"] = "".join(texts[index, "partial_json"])
    return grown


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict) or not ("input_tokens" in given or "output_tokens" in given):
        return None
    cached, written = (as_count(given.get(f"cache_{name}_input_tokens")) for name in ("read", "creation"))
    return Usage(
        input_tokens=as_count(given.get("input_tokens")) + cached + written,
        output_tokens=as_count(given.get("output_tokens")),
        cached_tokens=cached,
        reasoning_tokens=as_count(as_object(given.get("output_tokens_details")).get("thinking_tokens")),
    )


def _written_usage(reply: Reply) -> Body:
    """The format cannot leave usage out: unknown is zero."""
    usage = reply.usage or Usage()
    told: Body = {
        "input_tokens": max(usage.input_tokens - usage.cached_tokens, 0),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        told["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return told


def _frame(reply: Reply, call: Call, id: str) -> Body:
    return {"id": id, "type": "message", "role": "assistant", "model": reply.model or call.model}


def _ending(reply: Reply) -> Body:
    usual = "tool_calls" if reply.message.get("tool_calls") else "stop"
    reason = reply.finish_reason or usual
    return {"stop_reason": _WRITTEN_REASONS.get(reason, reason), "stop_sequence": None}


def _content(reply: Reply, id: str) -> list[Body]:
    """The blocks that give `reply`: thinking (unsigned), what is said or declined, tool calls."""
    message, content = reply.message, list[Body]()
    if thought := as_text(message.get("reasoning_content")):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    content += as_objects(text_blocks(message))
    if refusal := as_text(message.get("refusal")):
        content.append({"type": "text", "text": refusal})
    for place, block in enumerate(call_blocks(message)):
        content.append(block | {"id": block["id"] or f"toolu_{id}_{place}"})
    return content
