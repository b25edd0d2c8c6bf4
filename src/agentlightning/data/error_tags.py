"""What went wrong in a rollout, as named tags, each with the step that shows it first.

A tag is a kind of failure that a person or an optimiser can act on; a send that was retried is not one.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple, cast

from agentlightning.data.call import Call, Message, message_text
from agentlightning.data.trajectory import ErrorTag, Step, Trajectory

LOOP_REPEATS = 3
"""The same tool called this often with the same arguments is a loop."""

EVIDENCE_CHARACTERS = 200

_CUT_SHORT = frozenset({"length", "max_tokens", "max_output_tokens"})
_REFUSAL = re.compile(
    r"\bI(?:['’]m| am)? ?(?:can(?:no|['’])t|not able to|unable to|won['’]t|will not|must decline to) (?:\w+ ){0,2}"
    r"(?:help (?:with|you)|assist|comply|provide|answer|do (?:that|this|so)|fulfil|engage|share)",
    re.IGNORECASE,
)
_REFUSAL_CHARACTERS = 160
"""A refusal comes at once; further down, the same words are usually about something else."""

_TOOL_FAILED = re.compile(r"\s*(?:\w*error\b|\w*exception\b|traceback \(most recent)", re.IGNORECASE)


class ToolCall(NamedTuple):
    """A tool that a model asked for; `arguments` in one spelling, so that equal ones compare equal."""

    name: str
    arguments: str


def error_tags(trajectory: Trajectory) -> list[ErrorTag]:
    """The tags of a trajectory, each name at most once, with the first step that shows it.

    timeout, exception: how the rollout ended · no_model_call · model_error, rate_limited (HTTP 429): a call whose last
    send failed · truncation: an answer cut at the token limit · refusal: declined by the model, its provider's filter,
    or the output's words · unknown_tool: asked for, not offered · tool_error · loop: the same tool call
    `LOOP_REPEATS` times · malformed_output: not JSON where `response_format` or a structured `expected` asks for it ·
    empty_output: it returned, with nothing.
    """
    found: dict[str, ErrorTag] = {}
    sends = _last_sends(trajectory.model_steps)
    tags = (_ending(trajectory), _model_tags(sends), _tool_tags(trajectory, sends), _output_tags(trajectory, sends))
    for tag in chain(*tags):
        found.setdefault(tag.name, tag)
    return list(found.values())


def tool_calls(step: Step) -> list[ToolCall]:
    """The tool calls in a model step's reply."""
    asked: Any = step.reply.message.get("tool_calls") if step.reply else None
    if not asked:
        return []
    functions = [call.get("function") for call in _dicts(asked)]
    return [ToolCall(str(f.get("name")), _spelled(f.get("arguments"))) for f in _dicts(functions)]


def _tag(name: str, step: Step | None, evidence: Any) -> ErrorTag:
    return ErrorTag(name, step.index if step else None, str(evidence)[:EVIDENCE_CHARACTERS])


def _ending(trajectory: Trajectory) -> Iterator[ErrorTag]:
    last = trajectory.steps[-1] if trajectory.steps else None
    if trajectory.status == "timeout":
        yield _tag("timeout", last, trajectory.error or "the rollout did not end in time")
    if trajectory.status == "failed":
        culprit = next((step for step in reversed(trajectory.steps) if step.error), last)
        yield _tag("exception", culprit, trajectory.error or "the agent failed without a message")
    if not trajectory.model_steps and trajectory.status != "stopped":
        yield _tag("no_model_call", None, "no model was called")


def _model_tags(sends: list[Step]) -> Iterator[ErrorTag]:
    for step in sends:
        if step.status == 429:
            yield _tag("rate_limited", step, step.error or "HTTP 429")
        elif step.error or (step.status or 0) >= 400:
            yield _tag("model_error", step, step.error or f"HTTP {step.status}")
        if not step.reply:
            continue
        if step.reply.finish_reason in _CUT_SHORT:
            yield _tag("truncation", step, step.reply.text[-EVIDENCE_CHARACTERS:])
        if declined := step.reply.message.get("refusal"):
            yield _tag("refusal", step, declined)
        if step.reply.finish_reason == "content_filter":
            yield _tag("refusal", step, "the provider's content filter")


def _last_sends(model_steps: list[Step]) -> list[Step]:
    """Model steps without the sends that the agent's SDK repeated."""
    kept: list[Step] = []
    for step in model_steps:
        if step.retry:
            repeated = (s for s in reversed(kept) if s.agent == step.agent and s.retry == step.retry - 1)
            if (earlier := next(repeated, None)) is not None:
                kept.remove(earlier)
        kept.append(step)
    return kept


def _tool_tags(trajectory: Trajectory, sends: list[Step]) -> Iterator[ErrorTag]:
    requested = [(step, call) for step in sends for call in tool_calls(step)]
    for step, call in requested:
        if step.call and call.name not in _offered(step.call):
            yield _tag("unknown_tool", step, f"{call.name}{call.arguments}")
    for step in trajectory.steps:
        if failure := _tool_failure(step):
            yield _tag("tool_error", step, failure)
    ran = [(s, ToolCall(s.name or "", _spelled(s.arguments))) for s in trajectory.steps if s.kind == "tool"]
    yield from _loops(requested)
    yield from _loops(ran)


def _offered(call: Call) -> set[str]:
    return {str(cast(dict[str, Any], tool.get("function") or tool).get("name")) for tool in call.tools}


def _tool_failure(step: Step) -> str | None:
    """What a failed tool said: in its own step, or in the message that brought its result to a model."""
    if step.kind == "tool":
        return step.error
    results = [message for message in step.call.messages if message.get("role") == "tool"] if step.call else []
    texts = (message_text(message) for message in results)
    return next((text for text in texts if _TOOL_FAILED.match(text) or _has_error_field(text)), None)


def _has_error_field(text: str) -> bool:
    content = _json(text) if text.lstrip().startswith("{") else None
    return isinstance(content, dict) and bool(content.get("error"))


def _loops(calls: list[tuple[Step, ToolCall]]) -> Iterator[ErrorTag]:
    seen: defaultdict[ToolCall, int] = defaultdict(int)
    for step, call in calls:
        seen[call] += 1
        if seen[call] == LOOP_REPEATS:
            yield _tag("loop", step, f"{call.name}{call.arguments} called {LOOP_REPEATS} times")


def _output_tags(trajectory: Trajectory, sends: list[Step]) -> Iterator[ErrorTag]:
    output = trajectory.output
    last = next(reversed(trajectory.model_steps), None)
    for step in sends:
        text = step.reply.text if step.reply else ""
        if text.strip() and step.call and _asks_for_json(step.call.params) and _json(text) is None:
            yield _tag("malformed_output", step, text)
    is_text = isinstance(output, str) and output.strip()
    if is_text and isinstance(trajectory.expected, dict | list) and not isinstance(_json(output), dict | list):
        yield _tag("malformed_output", last, output)
    said = output if is_text else last.reply.text if last and last.reply else ""
    if _REFUSAL.search(said[:_REFUSAL_CHARACTERS]):
        yield _tag("refusal", last, said)
    is_empty = not is_text if isinstance(output, str) else output in (None, {}, [])
    if trajectory.status == "succeeded" and is_empty:
        yield _tag("empty_output", last, "the agent returned nothing")


def _asks_for_json(params: dict[str, Any]) -> bool:
    """Chat: `response_format.type`. Responses: `text.format.type`."""
    wanted: Any = params.get("response_format")
    if wanted is None and isinstance(params.get("text"), dict):
        wanted = params["text"].get("format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_object", "json_schema")


def _json(text: str) -> Any:
    """The JSON value of a text; None when it is not JSON (or is null, which no format asks for)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _spelled(arguments: Any) -> str:
    value = _json(arguments) if isinstance(arguments, str) else arguments
    return json.dumps(arguments if value is None else value, sort_keys=True, default=str)


def _dicts(values: Any) -> list[Message]:
    return [value for value in cast(list[Any], values) if isinstance(value, dict)] if isinstance(values, list) else []
