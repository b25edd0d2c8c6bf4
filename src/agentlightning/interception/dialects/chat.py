"""Chat completions: the format of OpenAI, Azure OpenAI, vLLM, Ollama's compatible endpoint and most others.

Our neutral message shape is this format's own, so requests translate by picking fields. The older `functions` are told
as tools, a `function_call` as the one tool call it is (without an id), and written back in the older form.
At Azure the model is the deployment named in the path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.errors import DataError
from agentlightning.interception.dialects import chat_answer
from agentlightning.interception.dialects.base import ServerSentEvents, rewritten_fields
from agentlightning.interception.dialects.splice import spliced
from agentlightning.interception.dialects.values import Body, as_object, as_objects, as_text, required_objects

_CALL_FIELDS = ("model", "messages", "tools", "stream", "stream_options")
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/chat/completions$")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Streaming(msgspec.Struct):
    """The two fields that decide whether a stream will end with its usage."""

    stream: Any = None
    stream_options: Any = msgspec.UNSET


_decode_streaming = msgspec.json.Decoder(_Streaming).decode


class ChatCompletions(ServerSentEvents):
    """`POST …/chat/completions`."""

    name = "chat"
    path_suffix = "/chat/completions"
    stream_end = re.compile(rb"^data: ?\[DONE\]", re.MULTILINE)

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        deployment = _DEPLOYMENT.search(path) if "/deployments/" in path else None
        return Call(
            agent=agent,
            model=unquote(deployment[1]) if deployment else as_text(body.get("model")),
            messages=list(map(_told, required_objects(body, "messages", "a chat-completions"))),
            tools=_tools(body),
            params={key: value for key, value in body.items() if key not in _CALL_FIELDS},
            stream=bool(body.get("stream")),
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = rewritten_fields(body, before, after)
        is_old = _is_old(body)
        if after.messages is not before.messages:
            changed["messages"] = spliced(
                body["messages"], before.messages, after.messages, new=_in_old_form if is_old else _as_is, edit=_edited
            )
        if after.tools is not before.tools and after.tools != before.tools:
            changed |= {"functions": [_function(tool) for tool in after.tools]} if is_old else {"tools": after.tools}
        return changed

    def reply(self, body: Body) -> Reply:
        return chat_answer.read(body)

    def assemble(self, events: Iterable[Body]) -> Reply:
        return chat_answer.assembled(events)

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        return chat_answer.completion(reply, call, id=id, created=created)

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        return chat_answer.stream(reply, call, id=id, created=created, with_usage=with_usage)

    def wants_usage(self, body: Body) -> bool:
        return bool(as_object(body.get("stream_options")).get("include_usage"))

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


def _is_old(body: Body) -> bool:
    return "functions" in body and "tools" not in body


def _tools(body: Body) -> list[Body]:
    if _is_old(body):
        return [{"type": "function", "function": function} for function in as_objects(body["functions"])]
    return as_objects(body.get("tools"))


def _function(tool: Body) -> Body:
    return as_object(tool.get("function"))


def _told(message: Message) -> Message:
    """A message of a request in the present form."""
    if message.get("role") == "function":
        return {**message, "role": "tool", "tool_call_id": ""}
    return chat_answer.with_tool_calls(message) if "function_call" in message else message


def _as_is(message: Message) -> Message:
    return message


def _in_old_form(message: Message) -> Message:
    """A message for an endpoint that knows functions but no tools. Of several calls it can make the first."""
    if message.get("role") == "tool":
        return {key: value for key, value in message.items() if key != "tool_call_id"} | {"role": "function"}
    return chat_answer.with_function_call(message)


def _edited(wire: Message, before: Message, after: Message) -> Message:
    is_old = wire.get("role") == "function" or "function_call" in wire
    return _in_old_form(after) if is_old else after
