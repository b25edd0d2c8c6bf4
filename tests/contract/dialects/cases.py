"""One conversation and one set of answers, in the words of every dialect. A new dialect is one `Case` here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agentlightning.data.call import Call, Message, Reply, Usage
from agentlightning.interception.dialects import Dialect, dialect_of

PIXEL = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}
ARGUMENTS = '{"a":6,"b":7}'
SYSTEM, QUESTION, ANSWER, NEXT = "You are Ada, a helper.", "What is 6 * 7?", "It is 42.", "And this picture?"

MULTIPLY = {"id": "c1", "type": "function", "function": {"name": "multiply", "arguments": ARGUMENTS}}
TOOL = {"type": "function", "function": {"name": "multiply", "description": "Multiply.", "parameters": SCHEMA}}
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
CONVERSATION: list[Message] = [
    {"role": "system", "content": SYSTEM},
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": None, "tool_calls": [MULTIPLY]},
    {"role": "tool", "tool_call_id": "c1", "content": "42"},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": [{"type": "text", "text": NEXT}, IMAGE]},
]


@dataclass
class Case:
    """A dialect, and how it writes the conversation. What differs from the others is said here and nowhere else."""

    path: str
    conversation: dict[str, Any]
    plain: dict[str, Any]
    """One user's question, without instructions."""
    heard: list[Message] = field(default_factory=lambda: CONVERSATION)
    has_tools: bool = True
    cap: str = "max_tokens"
    """Its name for the most tokens an answer may have."""
    stored: Callable[[Reply], Reply] = lambda reply: reply
    """What of a reply its answers can carry."""

    @property
    def dialect(self) -> Dialect:
        found = dialect_of(self.path)
        assert found is not None
        return found

    def body(self, **fields: Any) -> dict[str, Any]:
        return copy.deepcopy(self.conversation) | fields

    def call(self, **fields: Any) -> Call:
        return self.dialect.call(self.body(**fields), "ada", self.path)


def _without_reasoning_count(reply: Reply) -> Reply:
    usage = reply.usage and Usage(reply.usage.input_tokens, reply.usage.output_tokens)
    return Reply(reply.message, reply.finish_reason, usage, reply.model)


CASES = {
    "chat": Case(
        "/v1/chat/completions",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": None, "tool_calls": [MULTIPLY]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "assistant", "content": ANSWER},
                {"role": "user", "content": [{"type": "text", "text": NEXT}, IMAGE]},
            ],
            "tools": [TOOL | {"vendor_field": 1}],
            "max_tokens": 50,
            "temperature": 0.5,
            "vendor": {"deep": [1, None]},
        },
        {"model": "m", "messages": [{"role": "user", "content": QUESTION}]},
    ),
    "responses": Case(
        "/v1/responses",
        {
            "model": "m",
            "instructions": SYSTEM,
            "input": [
                {"role": "user", "content": QUESTION},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
                {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "multiply", "arguments": ARGUMENTS},
                {"type": "function_call_output", "call_id": "c1", "output": "42"},
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": NEXT},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
                    ],
                },
            ],
            "tools": [{**TOOL["function"], "type": "function", "vendor_field": 1}],
            "max_output_tokens": 50,
            "temperature": 0.5,
            "store": False,
        },
        {"model": "m", "input": QUESTION},
        cap="max_output_tokens",
    ),
    "messages": Case(
        "/v1/messages",
        {
            "model": "m",
            "system": SYSTEM,
            "messages": [
                {"role": "user", "content": QUESTION},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "redacted_thinking", "data": "x"},
                        {"type": "tool_use", "id": "c1", "name": "multiply", "input": {"a": 6, "b": 7}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "42"}]},
                {"role": "assistant", "content": [{"type": "text", "text": ANSWER, "citations": None}]},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": NEXT},
                        {
                            "type": "image",
                            "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                            "cache_control": {"type": "ephemeral"},
                        },
                    ],
                },
            ],
            "tools": [{"name": "multiply", "description": "Multiply.", "input_schema": SCHEMA, "vendor_field": 1}],
            "max_tokens": 50,
            "temperature": 0.5,
            "metadata": {"user_id": "u"},
        },
        {"model": "m", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 50},
    ),
    "ollama": Case(
        "/api/chat",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": QUESTION},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"id": "c1", "function": {"name": "multiply", "arguments": {"a": 6, "b": 7}}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
                {"role": "assistant", "content": ANSWER},
                {"role": "user", "content": NEXT, "images": [PIXEL]},
            ],
            "tools": [TOOL | {"vendor_field": 1}],
            "options": {"num_predict": 50, "temperature": 0.5, "mirostat": 1},
            "keep_alive": "5m",
        },
        {"model": "m", "messages": [{"role": "user", "content": QUESTION}]},
        cap="num_predict",
        stored=_without_reasoning_count,
    ),
    "ollama-generate": Case(
        "/api/generate",
        {
            "model": "m",
            "system": SYSTEM,
            "prompt": QUESTION,
            "options": {"num_predict": 50, "temperature": 0.5},
            "format": "json",
        },
        {"model": "m", "prompt": QUESTION},
        heard=CONVERSATION[:2],
        has_tools=False,
        cap="num_predict",
        stored=_without_reasoning_count,
    ),
}

TEXT = 'Six times seven is forty-two. Naturally: 6 × 7 = 42.\n\n"done":true data: [DONE] event: message_stop'
USAGE = Usage(input_tokens=30, output_tokens=12, cached_tokens=8, reasoning_tokens=5)
SAID = Reply({"role": "assistant", "content": TEXT}, "stop", USAGE, "m-1")
CALLED = Reply({"role": "assistant", "content": None, "tool_calls": [MULTIPLY]}, "tool_calls", USAGE, "m-1")
REPLIES = {
    "text": SAID,
    "one letter": Reply({"role": "assistant", "content": "x"}, "stop", USAGE, "m-1"),
    "cut at the limit": Reply({"role": "assistant", "content": "It is"}, "length", USAGE, "m-1"),
    "filtered": Reply({"role": "assistant", "content": "It"}, "content_filter", USAGE, "m-1"),
    "reasoning": Reply({"role": "assistant", "content": TEXT, "reasoning_content": "Hm, six…"}, "stop", USAGE, "m-1"),
    "a tool call": CALLED,
    "text and two tool calls": Reply(
        {"role": "assistant", "content": "Let me see.", "tool_calls": [MULTIPLY, MULTIPLY | {"id": "c2"}]},
        "tool_calls",
        USAGE,
        "m-1",
    ),
}
