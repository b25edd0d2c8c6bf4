"""What a model span says, as chat messages: GenAI conventions, OpenInference, or Traceloop's numbered attributes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, cast

from agentlightning.data.call import Message, Usage

Attributes = Mapping[str, Any]

_USAGE = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
    "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning"),
}
_PARAMS = ("temperature", "top_p", "max_tokens", "seed", "frequency_penalty", "presence_penalty")


def asked(attributes: Attributes) -> list[Message]:
    """The messages that went to the model, instructions first; empty when the log holds no content."""
    if "gen_ai.input.messages" in attributes or "gen_ai.system_instructions" in attributes:
        told = _parts_message("system", decoded(attributes.get("gen_ai.system_instructions")))
        return [*told, *_otel_messages(attributes.get("gen_ai.input.messages"))]
    if found := _numbered(attributes, "llm.input_messages"):
        return [_openinference(item) for item in found]
    if found := _numbered(attributes, "gen_ai.prompt"):
        return [_traceloop(item) for item in found]
    text = attributes.get("input.value")
    return [{"role": "user", "content": str(text)}] if text else []


def answered(attributes: Attributes) -> tuple[Message | None, str | None]:
    """The model's first answer and why it ended; None when the log holds no content."""
    reasons: Any = decoded(attributes.get("gen_ai.response.finish_reasons")) or []
    reason = str(reasons[0]) if isinstance(reasons, list) and reasons else None
    messages = _otel_messages(attributes.get("gen_ai.output.messages"))
    if not messages:
        messages = [_openinference(item) for item in _numbered(attributes, "llm.output_messages")]
    if not messages:
        found = _numbered(attributes, "gen_ai.completion")
        reason = reason or next((str(i["finish_reason"]) for i in found if i.get("finish_reason")), None)
        messages = [_traceloop(item) for item in found]
    if not messages and attributes.get("output.value"):
        messages = [{"role": "assistant", "content": str(attributes["output.value"])}]
    return ({**messages[0], "role": "assistant"} if messages else None), reason


def offered(attributes: Attributes) -> list[dict[str, Any]]:
    """The tools the model was offered."""
    tools: Any = decoded(attributes.get("gen_ai.tool.definitions")) or []
    if not tools:
        tools = [decoded(item.get("tool.json_schema")) for item in _numbered(attributes, "llm.tools")]
    return [_function(tool) for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def usage(attributes: Attributes) -> Usage | None:
    """Tokens, where the log counts them."""
    counts = {name: next((attributes[k] for k in keys if k in attributes), None) for name, keys in _USAGE.items()}
    known = {name: int(value) for name, value in counts.items() if isinstance(value, int | float)}
    return Usage(**known) if known else None


def params(attributes: Attributes) -> dict[str, Any]:
    """Request parameters, where the log holds them."""
    given: Any = decoded(attributes.get("llm.invocation_parameters"))
    found = {name: attributes[f"gen_ai.request.{name}"] for name in _PARAMS if f"gen_ai.request.{name}" in attributes}
    known = (
        {key: value for key, value in given.items() if key not in ("model", "messages", "tools")} if _is(given) else {}
    )
    return {**known, **found}


def decoded(value: Any) -> Any:
    """Content that is JSON in a string, decoded; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _otel_messages(value: Any) -> list[Message]:
    messages: Any = decoded(value)
    if isinstance(messages, str) and messages:
        return [{"role": "user", "content": messages}]
    found: list[Message] = []
    for item in messages if isinstance(messages, list) else []:
        if _is(item):
            role = str(item.get("role", "user"))
            parts = item["parts"] if "parts" in item else item.get("content")
            found += _parts_message(role, parts)
    return found


def _parts_message(role: str, parts: Any) -> list[Message]:
    """One message, and one more for each tool result among the parts."""
    if isinstance(parts, str):
        return [{"role": role, "content": parts}]
    results: list[Message] = []
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for part in filter(_is, parts or []):
        if part.get("type") == "tool_call":
            calls.append(_call(part.get("id"), part.get("name"), part.get("arguments")))
        elif part.get("type") == "tool_call_response":
            said = part.get("response", part.get("result"))
            results.append({"role": "tool", "tool_call_id": str(part.get("id") or ""), "content": _text(said)})
        elif part.get("type") != "reasoning":
            texts.append(_text(part.get("content")))
    message: Message = {"role": role, "content": "".join(texts) or (None if calls else "")}
    if calls:
        message["tool_calls"] = calls
    return [*([message] if texts or calls else []), *results]


def _openinference(item: dict[str, Any]) -> Message:
    message: Message = {"role": str(item.get("message.role", "user")), "content": item.get("message.content")}
    if message["content"] is None:
        contents = _numbered(item, "message.contents")
        message["content"] = "".join(_text(c.get("message_content.text")) for c in contents) or None
    calls = _numbered(item, "message.tool_calls")
    if calls:
        name, arguments = "tool_call.function.name", "tool_call.function.arguments"
        message["tool_calls"] = [_call(c.get("tool_call.id"), c.get(name), c.get(arguments)) for c in calls]
    if item.get("message.tool_call_id"):
        message["tool_call_id"] = str(item["message.tool_call_id"])
    return message


def _traceloop(item: dict[str, Any]) -> Message:
    message: Message = {"role": str(item.get("role", "assistant")), "content": item.get("content")}
    if calls := _numbered(item, "tool_calls"):
        message["tool_calls"] = [_call(c.get("id"), c.get("name"), c.get("arguments")) for c in calls]
    if item.get("tool_call_id"):
        message["tool_call_id"] = str(item["tool_call_id"])
    return message


def _numbered(attributes: Attributes, prefix: str) -> list[dict[str, Any]]:
    """`prefix.0.x`, `prefix.1.x`, … as one mapping of what is behind the number per number, in order."""
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for key, value in attributes.items():
        if key.startswith(f"{prefix}."):
            number, _, rest = key[len(prefix) + 1 :].partition(".")
            if number.isdigit() and rest:
                found[int(number)][rest] = value
    return [found[number] for number in sorted(found)]


def _call(id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    function = {"name": str(name or ""), "arguments": _text(arguments if arguments is not None else {})}
    return {"id": str(id or ""), "type": "function", "function": function}


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    if isinstance(tool.get("function"), dict):
        return tool
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)


def _is(value: Any) -> bool:
    return isinstance(cast(object, value), dict)
