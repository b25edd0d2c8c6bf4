"""The conversations of a rollout, as chat training data wants them: each answer of a model in exactly one of them.

An agent sends its whole history again with every call. Calls that continue one another become one conversation; a call
whose history was rewritten, or another agent's, begins its own. Steps interleave as they like.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, cast

import msgspec

from agentlightning.data.call import Message, message_text
from agentlightning.data.trajectory import Step, Trajectory


class Conversation(msgspec.Struct, frozen=True):
    """Messages of one agent and one model, ending in an answer."""

    agent: str
    messages: list[Message]
    answered: list[int]
    """Which messages are answers a model gave in this rollout, and this conversation is the one to learn them from."""
    tools: list[dict[str, Any]]


def conversations(trajectory: Trajectory, agents: Collection[str] | None = None) -> list[Conversation]:
    """The rollout's conversations in the order they began; `agents` leaves out the others'.

    A call continues the longest conversation of its agent whose messages it begins with. Calls that failed or whose
    answer was not read to its end are left out. Messages come as `plain_message` writes them.
    """
    found: list[Conversation] = []
    for step in trajectory.model_steps:
        if agents is not None and step.agent not in agents:
            continue
        if step.call and step.reply and not step.error and not step.is_partial:
            _add(found, step)
    return found


def _add(found: list[Conversation], step: Step) -> None:
    assert step.call and step.reply
    history = [plain_message(message) for message in step.call.messages]
    tools = plain_tools(step.call.tools)
    messages = [*history, plain_message(step.reply.message)]
    earlier = [c for c in found if c.agent == step.agent and history[: len(c.messages)] == c.messages]
    longest = max(earlier, key=lambda c: len(c.messages), default=None)
    answered = [*(longest.answered if longest else []), len(history)]
    grown = Conversation(step.agent, messages, answered, tools or (longest.tools if longest else []))
    if longest is None:
        found.append(grown)
    else:
        found[next(i for i, c in enumerate(found) if c is longest)] = grown


def is_answer(message: Message) -> bool:
    """Whether a message says something: text, parts or a tool call."""
    content = message.get("content")
    return bool(message.get("tool_calls") or (content.strip() if isinstance(content, str) else content))


def plain_message(message: Message) -> Message:
    """A message with only what chat training formats know: role, content, name, tool_calls, tool_call_id.

    Text in parts becomes one string (images and other parts stay parts), a developer's message a system message. Fields
    of one provider (refusal, reasoning, audio, annotations) are left out.
    """
    role = str(message.get("role", "user"))
    plain: Message = {"role": {"developer": "system", "function": "tool"}.get(role, role), "content": _content(message)}
    if isinstance(name := message.get("name"), str) and role != "tool":
        plain["name"] = name
    if isinstance(call_id := message.get("tool_call_id"), str):
        plain["tool_call_id"] = call_id
    calls: Any = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        plain["tool_calls"] = [_tool_call(call) for call in cast(list[Any], calls) if isinstance(call, dict)]
        plain["content"] = plain["content"] or None
    return plain


def plain_tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Function tools as `{"type": "function", "function": …}`; a provider's own tools (web search, …) are left out."""
    plain: list[dict[str, Any]] = []
    for tool in tools:
        function: Any = tool.get("function") if isinstance(tool.get("function"), dict) else tool
        if function.get("name") and tool.get("type", "function") == "function":
            known = {key: function[key] for key in ("name", "description", "parameters", "strict") if key in function}
            plain.append({"type": "function", "function": known})
    return plain


def _content(message: Message) -> Any:
    content: Any = message.get("content")
    if isinstance(content, list):
        parts = cast(list[Any], content)
        is_text = all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts)
        return message_text(message) if is_text else parts
    return content if content is not None else ""


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function: dict[str, Any] = call.get("function") or {}
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    named = {"name": str(function.get("name", "")), "arguments": text}
    return {"id": str(call.get("id", "")), "type": "function", "function": named}
