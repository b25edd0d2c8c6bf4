"""Chat completions: the format of OpenAI, Azure OpenAI, vLLM, Ollama and most others.

Our neutral message shape is this format's own, so requests translate by picking fields. Streams come as deltas of one
message: text is concatenated, tool calls are keyed by index and their argument fragments joined. The older
`function_call` of an answer is told as the one tool call it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.errors import DataError
from agentlightning.interception.dialects.base import Body

_CALL_FIELDS = ("model", "messages", "tools", "stream", "stream_options")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Streaming(msgspec.Struct):
    """The two fields that decide whether a stream will end with its usage."""

    stream: Any = None
    stream_options: Any = msgspec.UNSET


_decode_streaming = msgspec.json.Decoder(_Streaming).decode


class ChatCompletions:
    name = "chat"
    path_suffix = "/chat/completions"
    stream_end = b"[DONE]"

    def call(self, body: Body, agent: str) -> Call:
        if not isinstance(body.get("messages"), list):
            raise DataError("a chat-completions request has no list of 'messages'")
        return Call(
            agent=agent,
            model=_text(body.get("model")),
            messages=_objects(body["messages"]),
            tools=_objects(body.get("tools")),
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
        choice = _first_choice(body)
        if choice is None:
            raise DataError(f"a chat-completions response has no 'choices': {str(body)[:200]}")
        return Reply(
            message=_with_tool_calls(_object(choice.get("message")) or {"role": "assistant", "content": None}),
            finish_reason=_text(choice.get("finish_reason")) or None,
            usage=_usage(body.get("usage")),
            model=_text(body.get("model")),
        )

    def assemble(self, events: Iterable[Body]) -> Reply:
        answer = _Answer()
        model, finish, usage = "", None, None
        for event in events:
            model = _text(event.get("model")) or model
            usage = _usage(event.get("usage")) or usage
            for choice in _objects(event.get("choices")):
                if choice.get("index", 0) != 0:
                    continue
                finish = _text(choice.get("finish_reason")) or finish
                answer.add(_object(choice.get("delta")))
        return Reply(message=answer.message(), finish_reason=finish, usage=usage, model=model)

    def ask_usage(self, content: bytes) -> bytes | None:
        try:
            given = _decode_streaming(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DataError(f"the request is no JSON object: {error}") from error
        if given.stream is not True:
            return None
        if given.stream_options is msgspec.UNSET:  # spliced in, so that every other byte stays the agent's own
            end = content.rindex(b"}")
            return content[:end] + b',"stream_options":{"include_usage":true}' + content[end:]
        options = given.stream_options or {}
        if not isinstance(options, dict) or "include_usage" in options:
            return None
        return msgspec.json.encode(_decode_fields(content) | {"stream_options": options | {"include_usage": True}})

    def may_hold_usage(self, content: bytes) -> bool:
        return _NO_CHOICES.search(content) is not None

    def is_usage_event(self, event: Body) -> bool:
        return event.get("choices") == [] and bool(event.get("usage"))


class _Answer:
    """A message growing out of its deltas: text, other string fields (reasoning, refusal), tool-call fragments."""

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, Body] = {}

    def add(self, delta: Body) -> None:
        for key, value in delta.items():
            if key == "function_call":
                self._add_call({"function": value})
            elif key == "tool_calls":
                for fragment in _objects(value):
                    self._add_call(fragment)
            elif key != "role" and isinstance(value, str):
                self._texts.setdefault(key, []).append(value)

    def message(self) -> Body:
        texts = {key: "".join(parts) for key, parts in self._texts.items()}
        message: Body = {"role": "assistant", "content": None} | texts
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message

    def _add_call(self, fragment: Body) -> None:
        given, index = _object(fragment.get("function")), fragment.get("index")
        place = index if isinstance(index, int) else 0
        call = self._calls.setdefault(place, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = _text(fragment.get("id")) or call["id"]
        call["function"]["name"] = _text(given.get("name")) or call["function"]["name"]
        call["function"]["arguments"] += _text(given.get("arguments"))


def _first_choice(body: Body) -> Body | None:
    """The choice every reader looks at: index 0, wherever it stands; else the first."""
    choices = _objects(body.get("choices"))
    return next((choice for choice in choices if choice.get("index") == 0), choices[0] if choices else None)


def _with_tool_calls(message: Body) -> Body:
    called = message.get("function_call")
    if not isinstance(called, dict):
        return message
    rest = {key: value for key, value in message.items() if key != "function_call"}
    return {**rest, "tool_calls": [{"id": "", "type": "function", "function": called}]}


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict) or "prompt_tokens" not in given:
        return None
    return Usage(
        input_tokens=_count(given["prompt_tokens"]),
        output_tokens=_count(given.get("completion_tokens")),
        cached_tokens=_count(_object(given.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_count(_object(given.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**53 else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> Body:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Body]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
