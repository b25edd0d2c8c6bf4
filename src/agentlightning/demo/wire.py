"""Chat completions on the wire: bodies are checked on the way in, answers, chunks and errors shaped on the way out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from agentlightning.data.call import message_text
from agentlightning.demo.model.language import chance, tokens
from agentlightning.demo.model.request import Answer, Request, ToolCall

FINGERPRINT = "simulated"
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


class BadRequest(Exception):
    """A body the endpoint cannot take; becomes an error of status 400 that names the parameter."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def parse_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        body = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object.")
    return cast(dict[str, Any], body)


def to_request(body: dict[str, Any]) -> Request:
    """The body as the model takes it; parameters the model does not know are let through."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' must be a list of at least one message.", "messages")
    for i, message in enumerate(cast(list[Any], messages)):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise BadRequest(f"messages[{i}] needs a 'role', one of: {', '.join(_ROLES)}.", f"messages[{i}].role")
    if not isinstance(body.get("model"), str):
        raise BadRequest("'model' must be a string.", "model")
    if body.get("n") not in (None, 1):
        raise BadRequest("the simulated model gives one choice per request: 'n' must be 1.", "n")
    known = {key: body[key] for key in Request.__struct_fields__ if body.get(key) is not None}
    known["max_tokens"] = body.get("max_completion_tokens") or body.get("max_tokens")
    try:
        return msgspec.convert(known, Request)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error


def completion(body: dict[str, Any], request: Request, given: Answer) -> dict[str, Any]:
    """The whole answer as one object."""
    choice = {"index": 0, "message": _message(given), "logprobs": None, "finish_reason": given.finish_reason}
    return {**_head(body, request, "chat.completion"), "choices": [choice], "usage": _usage(request, given)}


def chunks(body: dict[str, Any], request: Request, given: Answer) -> list[dict[str, Any]]:
    """The same answer as stream chunks, a token at a time; usage comes last where `stream_options` asks for it."""
    head = _head(body, request, "chat.completion.chunk")
    listed = [{**head, "choices": [_delta(delta)]} for delta in _deltas(given)]
    listed.append({**head, "choices": [_delta({}, given.finish_reason)]})
    options: dict[str, Any] = body.get("stream_options") or {}
    if options.get("include_usage"):
        listed = [{**chunk, "usage": None} for chunk in listed]
        listed.append({**head, "choices": [], "usage": _usage(request, given)})
    return listed


def error_body(message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error as the OpenAI API shapes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def model_card(name: str) -> dict[str, Any]:
    """One entry of the model list."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "agentlightning-simulation"}


def _head(body: dict[str, Any], request: Request, kind: str) -> dict[str, Any]:
    key = chance("id", request.text, request.seed)
    return {
        "id": f"chatcmpl-{int(key * 2**52):013x}",
        "object": kind,
        "created": int(time.time()),
        "model": body["model"],
        "system_fingerprint": FINGERPRINT,
    }


def _message(given: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": given.text, "refusal": None}
    if given.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in given.tool_calls]
    return message


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _deltas(given: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "" if given.text is not None else None}
    for piece in tokens(given.text or ""):
        yield {"content": piece}
    for index, call in enumerate(given.tool_calls):
        opening = _tool_call(call)
        opening["function"]["arguments"] = ""
        yield {"tool_calls": [{"index": index, **opening}]}
        for piece in tokens(call.arguments):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(request: Request, given: Answer) -> dict[str, int]:
    asked = sum(4 + len(tokens(message_text(message))) for message in request.messages)
    asked += len(tokens(msgspec.json.encode(request.tools).decode())) if request.tools else 0
    answered = len(tokens(given.text or "")) + sum(4 + len(tokens(call.arguments)) for call in given.tool_calls)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
