"""Answers in the Responses format, read and written, whole and as streams.

A stream's last event holds the whole response. One that was cut short adds up from its items: finished ones as they
are, the last from its deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agentlightning.data.call import Call, Message, Reply, Usage, message_text
from agentlightning.errors import DataError
from agentlightning.interception.dialects import streams, tools
from agentlightning.interception.dialects.responses_items import answer_of, call_items, text_items
from agentlightning.interception.dialects.values import (
    Body,
    as_count,
    as_list,
    as_logprobs,
    as_object,
    as_objects,
    as_text,
)

_ENDS = ("response.completed", "response.incomplete", "response.failed")
_REASONS = {"max_output_tokens": "length"}
_ECHOED = {
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "temperature": 1.0,
    "tool_choice": "auto",
    "top_p": 1.0,
    "max_output_tokens": None,
    "reasoning": None,
    "store": True,
    "text": {"format": {"type": "text"}},
    "truncation": "disabled",
    "metadata": {},
    "user": None,
}
"""What a response repeats of its request, and what it says of a parameter that was not given."""


def read(body: Body) -> Reply:
    """The reply of a complete response. DataError when it has no output."""
    if not isinstance(body.get("output"), list):
        raise DataError(f"a Responses response has no list of 'output': {str(body)[:200]}")
    items = as_objects(body["output"])
    parts = [part for item in items for part in as_objects(item.get("content"))]
    logprobs = [p for part in parts for p in as_logprobs(part.get("logprobs")) or ()]
    message = answer_of(items)
    return Reply(
        message=message,
        finish_reason=_finish(body, message),
        usage=_usage(body.get("usage")),
        model=as_text(body.get("model")),
        logprobs=logprobs or None,
    )


def assembled(events: Iterable[Body]) -> Reply:
    """The reply that a stream's events add up to."""
    items, model = _Items(), ""
    for event in events:
        kind, response = as_text(event.get("type")), as_object(event.get("response"))
        model = as_text(response.get("model")) or model
        if kind in _ENDS and response:
            return read(response | {"output": as_list(response.get("output")) or items.all()})
        items.add(kind, event)
    return Reply(message=answer_of(items.all()), model=model)


def response(reply: Reply, call: Call, *, id: str, created: float) -> Body:
    """The response that gives `reply`."""
    return _frame(reply, call, id, created) | _ending(reply) | {"output": _output(reply, call, id)}


def stream(reply: Reply, call: Call, *, id: str, created: float) -> Iterator[bytes]:
    """The same as server-sent events."""
    frame = _frame(reply, call, id, created) | {"output": []}
    for number, event in enumerate(_events(frame, _output(reply, call, id), _ending(reply))):
        yield streams.event(event | {"sequence_number": number}, name=event["type"])


class _Items:
    """The output growing out of a stream's events."""

    def __init__(self) -> None:
        self._items: dict[int, Body] = {}
        self._texts: dict[int, dict[tuple[str, int], list[str]]] = {}

    def add(self, kind: str, event: Body) -> None:
        index = as_count(event.get("output_index"))
        if kind == "response.output_item.added":
            self._items[index] = as_object(event.get("item"))
            self._texts[index] = {}
        elif kind == "response.output_item.done":
            self._items[index] = as_object(event.get("item"))
            self._texts.pop(index, None)
        elif kind.endswith(".delta") and isinstance(event.get("delta"), str) and index in self._texts:
            place = as_count(event.get("content_index")) or as_count(event.get("summary_index"))
            name = kind.removeprefix("response.").removesuffix(".delta")
            self._texts[index].setdefault((name, place), []).append(event["delta"])

    def all(self) -> list[Body]:
        return [self._items[index] | self._grown(index) for index in sorted(self._items)]

    def _grown(self, index: int) -> Body:
        texts = {key: "".join(parts) for key, parts in self._texts.get(index, {}).items()}
        grown: Body = {}
        for (name, _), text in sorted(texts.items()):
            if name == "function_call_arguments":
                grown["arguments"] = text
            elif name == "custom_tool_call_input":
                grown["input"] = text
            elif name == "reasoning_summary_text":
                grown.setdefault("summary", []).append({"type": "summary_text", "text": text})
            elif name == "refusal":
                grown.setdefault("content", []).append({"type": "refusal", "refusal": text})
            elif name in ("output_text", "reasoning_text"):
                grown.setdefault("content", []).append({"type": name, "text": text})
        return grown


def _finish(body: Body, message: Message) -> str:
    status = as_text(body.get("status")) or "completed"
    if status == "completed":
        return "tool_calls" if "tool_calls" in message else "stop"
    reason = as_text(as_object(body.get("incomplete_details")).get("reason"))
    return _REASONS.get(reason, reason) or status


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict) or "input_tokens" not in given:
        return None
    return Usage(
        input_tokens=as_count(given["input_tokens"]),
        output_tokens=as_count(given.get("output_tokens")),
        cached_tokens=as_count(as_object(given.get("input_tokens_details")).get("cached_tokens")),
        reasoning_tokens=as_count(as_object(given.get("output_tokens_details")).get("reasoning_tokens")),
    )


def _frame(reply: Reply, call: Call, id: str, created: float) -> Body:
    """A response that has just begun."""
    first = call.messages[0] if call.messages else {}
    return {
        "id": id,
        "object": "response",
        "created_at": int(created),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": message_text(first) if first.get("role") == "system" else None,
        "model": reply.model or call.model,
        "tools": [tools.to_flat(tool) for tool in call.tools],
        **{key: call.params.get(key, usual) for key, usual in _ECHOED.items()},
        "usage": None,
    }


def _ending(reply: Reply) -> Body:
    reason = {"length": "max_output_tokens"}.get(reply.finish_reason or "", reply.finish_reason)
    is_cut = reason in ("max_output_tokens", "content_filter")
    usage = reply.usage
    return {
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": reason} if is_cut else None,
        "usage": None
        if usage is None
        else {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.total_tokens,
        },
    }


def _output(reply: Reply, call: Call, id: str) -> list[Body]:
    """The items that give `reply`: reasoning, what is said, tool calls."""
    message, output = reply.message, list[Body]()
    if thought := as_text(message.get("reasoning_content")):
        said = [{"type": "reasoning_text", "text": thought}]
        output.append({"id": f"rs_{id}", "type": "reasoning", "summary": [], "content": said})
    is_empty = message.get("content") == "" and not message.get("refusal")
    for item in [{"role": "assistant", "content": ""}] if is_empty else text_items(message):
        output.append(_said(item, reply, call, id) if "role" in item else item)
    for place, item in enumerate(call_items(message)):
        kind = "fc" if item["type"] == "function_call" else "ctc"
        given = {"id": f"{kind}_{id}_{place}", "call_id": item["call_id"] or f"call_{id}_{place}"}
        output.append(item | given | {"status": "completed"})
    return output


def _said(item: Body, reply: Reply, call: Call, id: str) -> Body:
    content: Any = item["content"]
    parts = [{"type": "output_text", "text": content}] if isinstance(content, str) else as_objects(content)
    wanted = "message.output_text.logprobs" in as_list(call.params.get("include"))
    entries = [{"token": "", "bytes": [], "logprob": p, "top_logprobs": []} for p in reply.logprobs or ()]
    told: list[Body] = []
    for part in parts:
        is_text = part.get("type") == "output_text"
        told.append(part | ({"annotations": [], "logprobs": entries if wanted else []} if is_text else {}))
        entries = [] if is_text else entries
    return {"id": f"msg_{id}", "type": "message", "role": "assistant", "status": "completed", "content": told}


def _events(frame: Body, output: list[Body], ending: Body) -> Iterator[Body]:
    yield {"type": "response.created", "response": frame}
    yield {"type": "response.in_progress", "response": frame}
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item.get("id")}
        yield {"type": "response.output_item.added", "output_index": index, "item": _begun(item)}
        if item.get("type") in ("message", "reasoning"):
            for number, part in enumerate(as_objects(item.get("content"))):
                yield from _part_events(part, place | {"content_index": number})
        elif item.get("type") in ("function_call", "custom_tool_call"):
            yield from _call_events(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{ending['status']}", "response": frame | ending | {"output": output}}


def _begun(item: Body) -> Body:
    """An item before its first delta."""
    empty: Body = {"content": [], "arguments": "", "input": "", "status": "in_progress"}
    return item | {key: value for key, value in empty.items() if key in item}


def _part_events(part: Body, place: Body) -> Iterator[Body]:
    name, field = as_text(part.get("type")), "refusal" if part.get("type") == "refusal" else "text"
    text, logprobs = as_text(part.get(field)), part.get("logprobs")
    extra = {} if logprobs is None else {"logprobs": logprobs}
    yield {"type": "response.content_part.added", **place, "part": part | {field: ""}}
    for piece in streams.pieces(text):
        yield {"type": f"response.{name}.delta", **place, "delta": piece, **({"logprobs": []} if extra else {})}
    yield {"type": f"response.{name}.done", **place, field: text, **extra}
    yield {"type": "response.content_part.done", **place, "part": part}


def _call_events(item: Body, place: Body) -> Iterator[Body]:
    is_function = item["type"] == "function_call"
    name, field = ("function_call_arguments", "arguments") if is_function else ("custom_tool_call_input", "input")
    text = as_text(item.get(field))
    for piece in streams.pieces(text):
        yield {"type": f"response.{name}.delta", **place, "delta": piece}
    own = {"name": item.get("name")} if is_function else {}
    yield {"type": f"response.{name}.done", **place, field: text, **own}
