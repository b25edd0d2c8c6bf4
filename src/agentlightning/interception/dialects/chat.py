"""Chat completions: the format of OpenAI, Azure OpenAI, vLLM, Ollama and most others.

Our neutral message shape is this format's own, so requests translate by picking fields. Streams come as deltas of one
message: text is concatenated, tool calls are keyed by index and their argument fragments joined.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.errors import DataError
from agentlightning.interception.dialects.base import Body

_CALL_FIELDS = ("model", "messages", "tools", "stream", "stream_options")


class ChatCompletions:
    name = "chat"
    path_suffix = "/chat/completions"

    def call(self, body: Body, agent: str) -> Call:
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise DataError("a chat-completions request has no list of 'messages'")
        return Call(
            agent=agent,
            model=str(body.get("model", "")),
            messages=[message for message in messages if isinstance(message, dict)],
            tools=list(body.get("tools") or []),
            params={key: value for key, value in body.items() if key not in _CALL_FIELDS},
            stream=bool(body.get("stream")),
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = dict(body)
        if after.messages is not before.messages:
            changed["messages"] = after.messages
        if after.model != before.model:
            changed["model"] = after.model
        if after.tools is not before.tools:
            changed["tools"] = after.tools
        for key in before.params.keys() - after.params.keys():
            del changed[key]
        changed |= {key: value for key, value in after.params.items() if before.params.get(key) != value}
        return changed

    def reply(self, body: Body) -> Reply:
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise DataError(f"a chat-completions response has no 'choices': {str(body)[:120]}")
        choice: Body = choices[0]
        message: Any = choice.get("message")
        return Reply(
            message=message if isinstance(message, dict) else {"role": "assistant", "content": None},
            finish_reason=choice.get("finish_reason"),
            usage=_usage(body.get("usage")),
            model=str(body.get("model", "")),
        )

    def assemble(self, events: Iterable[Body]) -> Reply:
        text: list[str] = []
        extra: dict[str, list[str]] = {}
        tools: dict[int, Body] = {}
        model, finish, usage = "", None, None
        for event in events:
            model = str(event.get("model") or model)
            usage = _usage(event.get("usage")) or usage
            for choice in event.get("choices") or []:
                if choice.get("index", 0) != 0:
                    continue
                finish = choice.get("finish_reason") or finish
                _add_delta(choice.get("delta") or {}, text, extra, tools)
        message: Body = {"role": "assistant", "content": "".join(text) if text else None}
        message |= {key: "".join(parts) for key, parts in extra.items()}
        if tools:
            message["tool_calls"] = [tools[index] for index in sorted(tools)]
        return Reply(message=message, finish_reason=finish, usage=usage, model=model)

    def ask_usage(self, body: Body) -> Body | None:
        options: Any = body.get("stream_options")
        if not body.get("stream") or (isinstance(options, dict) and "include_usage" in options):
            return None
        return body | {"stream_options": {**(options or {}), "include_usage": True}}

    def is_usage_event(self, event: Body) -> bool:
        return event.get("choices") == [] and bool(event.get("usage"))


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict) or "prompt_tokens" not in given:
        return None
    prompt_details, completion_details = (
        given.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion")
    )
    return Usage(
        input_tokens=int(given.get("prompt_tokens") or 0),
        output_tokens=int(given.get("completion_tokens") or 0),
        cached_tokens=int(prompt_details.get("cached_tokens") or 0),
        reasoning_tokens=int(completion_details.get("reasoning_tokens") or 0),
    )


def _add_delta(delta: Body, text: list[str], extra: dict[str, list[str]], tools: dict[int, Body]) -> None:
    """Fold one delta in: text, other string fields (reasoning, refusal), tool-call fragments."""
    for key, value in delta.items():
        if key == "content" and isinstance(value, str):
            text.append(value)
        elif key == "function_call" and isinstance(value, dict):
            _add_fragment(tools.setdefault(0, {"id": "", "type": "function", "function": {}})["function"], value)
        elif key == "tool_calls":
            for fragment in value or []:
                entry = tools.setdefault(
                    int(fragment.get("index") or 0), {"id": "", "type": "function", "function": {}}
                )
                entry["id"] = fragment.get("id") or entry["id"]
                _add_fragment(entry["function"], fragment.get("function") or {})
        elif key != "role" and isinstance(value, str):
            extra.setdefault(key, []).append(value)


def _add_fragment(function: Body, fragment: Body) -> None:
    if fragment.get("name"):
        function["name"] = fragment["name"]
    function["arguments"] = function.get("arguments", "") + (fragment.get("arguments") or "")
