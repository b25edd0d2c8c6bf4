"""Ollama's native formats: `/api/chat` and `/api/generate`. Answers come as lines of JSON, unless `stream` is false.

Call.params holds the `options` (temperature, num_predict, …) beside the request's own fields (format, keep_alive, …);
a new parameter becomes an option unless it is one of those fields. A prompt is a user's message, `system` the one
before it. A prompt has no turns, so examples put before it become paragraphs of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from agentlightning.data.call import Call, Message, Reply, message_text
from agentlightning.errors import DataError
from agentlightning.interception.dialects import ollama_answer, streams
from agentlightning.interception.dialects.base import ServerSentEvents, rewritten_fields
from agentlightning.interception.dialects.ollama_answer import told, written
from agentlightning.interception.dialects.splice import spliced
from agentlightning.interception.dialects.values import Body, as_object, as_objects, as_text, required_objects

_OWN_FIELDS = frozenset(
    ("format", "keep_alive", "think", "template", "raw", "context", "suffix", "logprobs", "top_logprobs")
)

_SYSTEM = ("system", "developer")


class _Lines(ServerSentEvents):
    """What both endpoints share."""

    stream_type = "ndjson"
    stream_starts = ()
    stream_end = re.compile(rb'"done"\s*:\s*true')

    def events(self, content: bytes) -> Iterator[Body]:
        return streams.lines(content)

    def reply(self, body: Body) -> Reply:
        return ollama_answer.read(body)

    def refuse(self, message: str, status: int, code: str | None = None) -> Body:
        return {"error": message}

    def assemble(self, events: Iterable[Body]) -> Reply:
        return ollama_answer.assembled(events)


class OllamaChat(_Lines):
    """`POST /api/chat`."""

    name = "ollama"
    path_suffix = "/api/chat"
    marks: tuple[bytes, ...] = (b'"model"', b'"messages"')

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        return Call(
            agent=agent,
            model=_model(body),
            messages=[told(message) for message in required_objects(body, "messages", "an Ollama chat")],
            tools=as_objects(body.get("tools")),
            params=_params(body, ("model", "messages", "tools", "stream", "options")),
            stream=body.get("stream") is not False,
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = _with_params(body, before, after)
        if after.messages != before.messages:
            changed["messages"] = spliced(body["messages"], before.messages, after.messages, new=written, edit=_edited)
        if after.tools != before.tools:
            changed["tools"] = after.tools
        return changed

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        return ollama_answer.response(reply, call, created=created, field="message")

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        return ollama_answer.stream(reply, call, created=created, field="message")


class OllamaGenerate(_Lines):
    """`POST /api/generate`."""

    name = "ollama-generate"
    path_suffix = "/api/generate"
    marks: tuple[bytes, ...] = (b'"model"', b'"prompt"')

    def call(self, body: Body, agent: str, path: str = "") -> Call:
        if not isinstance(body.get("prompt"), str):
            raise DataError("an Ollama generate request has no text 'prompt'")
        system = as_text(body.get("system"))
        return Call(
            agent=agent,
            model=_model(body),
            messages=[*([{"role": "system", "content": system}] if system else []), _prompt(body)],
            params=_params(body, ("model", "prompt", "system", "images", "stream", "options")),
            stream=body.get("stream") is not False,
        )

    def rewrite(self, body: Body, before: Call, after: Call) -> Body:
        changed = _with_params(body, before, after)
        if after.messages != before.messages:
            _rewrite_prompt(changed, after.messages)
        return changed

    def respond(self, reply: Reply, call: Call, *, id: str, created: float) -> Body:
        return ollama_answer.response(reply, call, created=created, field="response")

    def respond_stream(
        self, reply: Reply, call: Call, *, id: str, created: float, with_usage: bool = True
    ) -> Iterator[bytes]:
        return ollama_answer.stream(reply, call, created=created, field="response")


def _model(body: Body) -> str:
    if not (model := as_text(body.get("model"))):
        raise DataError("an Ollama request has no 'model'")
    return model


def _params(body: Body, fields: tuple[str, ...]) -> Body:
    return as_object(body.get("options")) | {key: value for key, value in body.items() if key not in fields}


def _with_params(body: Body, before: Call, after: Call) -> Body:
    """The request with the parameters that changed, each where it belongs."""
    options = as_object(body.get("options"))
    flat = rewritten_fields(options | body, before, after)
    added = {key for key in flat if key not in body and (key in options or key not in _OWN_FIELDS)}
    told = {key: flat[key] for key in flat if key in added} | {key: options[key] for key in options if key in body}
    changed = {key: value for key, value in flat.items() if key not in added}
    return changed | ({"options": told} if told != options else {})


def _edited(wire: Message, before: Message, after: Message) -> Message:
    """Only what differs; what we did not tell stays."""
    old, new = written(before), written(after)
    kept = {key: value for key, value in wire.items() if key not in old or key in new}
    return kept | {key: value for key, value in new.items() if key not in old or old[key] != value}


def _prompt(body: Body) -> Message:
    return told({"role": "user", "content": body["prompt"], "images": body.get("images")})


def _rewrite_prompt(changed: Body, messages: list[Message]) -> None:
    system = [message_text(message) for message in messages if message.get("role") in _SYSTEM]
    turns = [message for message in messages if message.get("role") not in _SYSTEM]
    if system:
        changed["system"] = "\n\n".join(system)
    elif changed.get("system"):
        del changed["system"]
    earlier = [f"{as_text(turn.get('role')).capitalize()}: {message_text(turn)}" for turn in turns[:-1]]
    last = written(turns[-1]) if turns else {"content": ""}
    changed["prompt"] = "\n\n".join((*earlier, last["content"]))
    if "images" in last or changed.get("images"):
        changed["images"] = last.get("images", [])
