"""Answers in the chat-completions format, read and written, whole and as streams.

A stream brings deltas of one message: text is joined, tool calls are keyed by index and the fragments of their
arguments joined. vLLM's token ids (`return_token_ids`) and log probabilities are read, and written when asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agentlightning.data.call import Call, Message, Reply, Usage
from agentlightning.errors import DataError
from agentlightning.interception.dialects import streams
from agentlightning.interception.dialects.values import (
    Body,
    as_count,
    as_ids,
    as_logprobs,
    as_object,
    as_objects,
    as_text,
)

_CALL_FIELDS = ("index", "id", "type", "function", "custom")
_JOINED = ("data", "transcript")
"""Fields of a spoken answer (`audio`) that come in pieces."""


def read(body: Body) -> Reply:
    """The reply of a complete response. DataError when it has no choices."""
    choices = as_objects(body.get("choices"))
    # what every reader looks at: index 0, wherever it stands; else the first
    choice = next((entry for entry in choices if entry.get("index") == 0), choices[0] if choices else None)
    if choice is None:
        raise DataError(f"a chat-completions response has no 'choices': {str(body)[:200]}")
    return Reply(
        message=_message(choice),
        finish_reason=_finish(choice),
        usage=_usage(body.get("usage")),
        model=as_text(body.get("model")),
        prompt_ids=as_ids(body.get("prompt_token_ids")),
        completion_ids=as_ids(choice.get("token_ids")),
        logprobs=as_logprobs(as_object(choice.get("logprobs")).get("content")),
        alternatives=[_message(entry) for entry in choices if entry is not choice],
    )


def assembled(events: Iterable[Body]) -> Reply:
    """The reply that a stream's events add up to."""
    answers: dict[int, _Answer] = {0: _Answer()}
    model, usage, prompt_ids = "", None, None
    for event in events:
        model = as_text(event.get("model")) or model
        usage = _usage(event.get("usage")) or usage
        prompt_ids = as_ids(event.get("prompt_token_ids")) or prompt_ids
        for choice in as_objects(event.get("choices")):
            index = choice.get("index", 0)
            answers.setdefault(index if isinstance(index, int) else 0, _Answer()).add(choice)
    first = answers.pop(0)
    return Reply(
        message=first.message(),
        finish_reason=first.finish_reason,
        usage=usage,
        model=model,
        prompt_ids=prompt_ids,
        completion_ids=first.ids,
        logprobs=first.logprobs,
        alternatives=[answers[index].message() for index in sorted(answers)],
    )


def with_tool_calls(message: Message) -> Message:
    """The message with the older `function_call` told as a tool call."""
    called = message.get("function_call")
    if not isinstance(called, dict):
        return message
    rest = {key: value for key, value in message.items() if key != "function_call"}
    return {**rest, "tool_calls": [{"id": "", "type": "function", "function": called}]}


def with_function_call(message: Message) -> Message:
    """The other way round. Of several calls the first."""
    calls = as_objects(message.get("tool_calls"))
    if not calls:
        return message
    rest = {key: value for key, value in message.items() if key != "tool_calls"}
    return {**rest, "function_call": as_object(calls[0].get("function"))}


def completion(reply: Reply, call: Call, *, id: str, created: float) -> Body:
    """The response that gives `reply`."""
    choices = [
        {"index": index, "message": message, "finish_reason": finish, **(_extras(reply, call) if index == 0 else {})}
        for index, message, finish in _choices(reply, call, id)
    ]
    body = _frame("chat.completion", reply, call, id, created) | {"choices": choices}
    return body | ({"usage": _written_usage(reply.usage)} if reply.usage is not None else {})


def stream(reply: Reply, call: Call, *, id: str, created: float, with_usage: bool) -> Iterator[bytes]:
    """The same as server-sent events. Usage comes in an event of its own, when asked for."""
    frame = _frame("chat.completion.chunk", reply, call, id, created)
    empty = {"usage": None} if with_usage else {}
    for index, message, finish in _choices(reply, call, id):
        extras = _extras(reply, call) if index == 0 else {}
        for delta in _deltas(message):
            choice = {"index": index, "delta": delta, "finish_reason": None, **extras}
            yield streams.event(frame | {"choices": [choice]} | empty)
            frame.pop("prompt_token_ids", None)
            extras = {}
        yield streams.event(frame | {"choices": [{"index": index, "delta": {}, "finish_reason": finish}]} | empty)
    if with_usage:
        yield streams.event(frame | {"choices": [], "usage": _written_usage(reply.usage or Usage())})
    yield b"data: [DONE]\n\n"


class _Answer:
    """One choice growing out of its deltas: text, other string fields (reasoning, refusal), tool-call fragments."""

    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self.ids: list[int] | None = None
        self.logprobs: list[float] | None = None
        self._texts: dict[str, list[str]] = {}
        self._others: Body = {}
        self._calls: dict[int, Body] = {}

    def add(self, choice: Body) -> None:
        self.finish_reason = _finish(choice) or self.finish_reason
        if (ids := as_ids(choice.get("token_ids"))) is not None:
            self.ids = [*(self.ids or ()), *ids]
        if (logprobs := as_logprobs(as_object(choice.get("logprobs")).get("content"))) is not None:
            self.logprobs = [*(self.logprobs or ()), *logprobs]
        for key, value in as_object(choice.get("delta")).items():
            if key == "function_call":
                self._add_call({"function": value})
            elif key == "tool_calls":
                for fragment in as_objects(value):
                    self._add_call(fragment)
            elif key != "role" and isinstance(value, str):
                self._texts.setdefault(key, []).append(value)
            elif value and isinstance(value, dict | list):
                self._add_other(key, value)

    def message(self) -> Message:
        texts = {key: "".join(parts) for key, parts in self._texts.items()}
        message: Message = {"role": "assistant", "content": None} | self._others | texts
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message

    def _add_call(self, fragment: Body) -> None:
        index = fragment.get("index")
        kind = "custom" if "custom" in fragment or fragment.get("type") == "custom" else "function"
        text = "input" if kind == "custom" else "arguments"
        given, place = as_object(fragment.get(kind)), index if isinstance(index, int) else 0
        call = self._calls.setdefault(place, {"id": "", "type": kind, kind: {"name": "", text: ""}})
        call["id"] = as_text(fragment.get("id")) or call["id"]
        target = call.setdefault(kind, {"name": "", text: ""})
        target["name"] = as_text(given.get("name")) or target["name"]
        target[text] += as_text(given.get(text))
        call |= {key: value for key, value in fragment.items() if key not in _CALL_FIELDS}

    def _add_other(self, key: str, value: Any) -> None:
        """Annotations come one after the other, a spoken answer in pieces."""
        known = self._others.get(key)
        if isinstance(value, list):
            self._others[key] = [*known, *value] if isinstance(known, list) else value
        elif isinstance(known, dict):
            joined = {name: as_text(known.get(name)) + as_text(value.get(name)) for name in _JOINED if name in value}
            self._others[key] = known | value | joined
        else:
            self._others[key] = value


def _message(choice: Body) -> Message:
    return with_tool_calls(as_object(choice.get("message")) or {"role": "assistant", "content": None})


def _finish(choice: Body) -> str | None:
    reason = as_text(choice.get("finish_reason")) or None
    return "tool_calls" if reason == "function_call" else reason


def _usage(given: Any) -> Usage | None:
    if not isinstance(given, dict) or "prompt_tokens" not in given:
        return None
    return Usage(
        input_tokens=as_count(given["prompt_tokens"]),
        output_tokens=as_count(given.get("completion_tokens")),
        cached_tokens=as_count(as_object(given.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=as_count(as_object(given.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def _written_usage(usage: Usage) -> Body:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _frame(kind: str, reply: Reply, call: Call, id: str, created: float) -> Body:
    frame: Body = {"id": id, "object": kind, "created": int(created), "model": reply.model or call.model}
    if call.params.get("return_token_ids") and reply.prompt_ids is not None:
        frame["prompt_token_ids"] = reply.prompt_ids
    return frame


def _extras(reply: Reply, call: Call) -> Body:
    """Token ids and log probabilities, for who asked for them. The text of a single token is not known here."""
    extras: Body = {}
    if call.params.get("logprobs") and reply.logprobs is not None:
        entries = [{"token": "", "logprob": p, "bytes": None, "top_logprobs": []} for p in reply.logprobs]
        extras["logprobs"] = {"content": entries, "refusal": None}
    if call.params.get("return_token_ids") and reply.completion_ids is not None:
        extras["token_ids"] = reply.completion_ids
    return extras


def _choices(reply: Reply, call: Call, id: str) -> Iterator[tuple[int, Message, str]]:
    """Index, message and finish reason of every choice, in the form the caller knows."""
    is_old = "functions" in call.params and "tools" not in call.params
    for index, message in enumerate((reply.message, *reply.alternatives)):
        calls = [
            entry if entry.get("id") or is_old else entry | {"id": f"call_{id}_{index}_{place}"}
            for place, entry in enumerate(as_objects(message.get("tool_calls")))
        ]
        finish = (reply.finish_reason if index == 0 else None) or ("tool_calls" if calls else "stop")
        told = message | ({"tool_calls": calls} if calls else {})
        if is_old:
            told, finish = with_function_call(told), "function_call" if finish == "tool_calls" else finish
        yield index, told, finish


def _deltas(message: Message) -> Iterator[Body]:
    whole = {key: value for key, value in message.items() if isinstance(value, dict | list | None)}
    whole = {key: value for key, value in whole.items() if key not in ("tool_calls", "function_call")}
    texts = {key: value for key, value in message.items() if isinstance(value, str) and key != "role"}
    yield {"role": "assistant"} | whole | dict.fromkeys(texts, "")
    for key, text in texts.items():
        yield from ({key: piece} for piece in streams.pieces(text))
    if isinstance(called := message.get("function_call"), dict):
        yield {"function_call": {"name": called.get("name"), "arguments": ""}}
        yield from ({"function_call": {"arguments": p}} for p in streams.pieces(as_text(called.get("arguments"))))
    for index, call in enumerate(as_objects(message.get("tool_calls"))):
        kind, text = ("custom", "input") if "custom" in call else ("function", "arguments")
        given = as_object(call.get(kind))
        yield {"tool_calls": [{**call, "index": index, kind: {**given, text: ""}}]}
        for piece in streams.pieces(as_text(given.get(text))):
            yield {"tool_calls": [{"index": index, kind: {text: piece}}]}
