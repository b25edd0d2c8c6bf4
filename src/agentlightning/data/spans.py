"""A rollout as OpenTelemetry spans, named by the GenAI conventions: invoke_agent over chat and execute_tool.

A derived view: the conventions still change and hold less than a trajectory (docs/data.md lists what is lost). Ids come
from the rollout's own, so exporting twice gives the same spans.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from agentlightning.data.call import Message, message_text
from agentlightning.data.conversations import plain_message, plain_tools
from agentlightning.data.trajectory import Reward, Step, Trajectory

SpanKind = Literal["internal", "client"]
_PROVIDERS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("openai.com", "openai"),
    ("anthropic.com", "anthropic"),
    ("googleapis.com", "gcp.gemini"),
    ("amazonaws.com", "aws.bedrock"),
    ("mistral.ai", "mistral_ai"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("x.ai", "x_ai"),
)
_PARAMS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}


class Event(msgspec.Struct, frozen=True):
    """Something that happened within a span."""

    name: str
    at: float
    attributes: dict[str, Any]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One operation. Times in seconds since the epoch; trace and span ids in hex, 32 and 16 digits."""

    trace_id: str
    span_id: str
    parent_id: str = ""
    name: str
    kind: SpanKind = "internal"
    start: float
    end: float
    attributes: dict[str, Any] = {}
    events: list[Event] = []
    error: str | None = None


def spans(trajectory: Trajectory, *, with_content: bool = True) -> list[Span]:
    """The rollout's span, one per run of consecutive steps of another agent, one per step; parents first.

    Rewards are `gen_ai.evaluation.result` events of the rollout's span. Without content only names, numbers and errors
    go out: no messages, arguments, results, inputs, outputs, reasons or token ids.
    """
    root = _root(trajectory, with_content=with_content)
    found = [root]
    for agent, steps in groupby(trajectory.steps, key=lambda step: step.agent):
        parent, run = root, list(steps)
        if agent != trajectory.agent_id:
            parent = _agent_span(trajectory, agent, run, root)
            found.append(parent)
        found += [_step_span(step, parent, with_content=with_content) for step in run]
    return found


def _root(trajectory: Trajectory, *, with_content: bool) -> Span:
    end = max([trajectory.timestamp + (trajectory.seconds or 0.0), *map(_end, trajectory.steps)])
    attributes: dict[str, Any] = {
        **_named_agent(trajectory.agent_id),
        "gen_ai.conversation.id": trajectory.id,
        "agl.rollout.id": trajectory.id,
        "agl.rollout.status": trajectory.status,
        "agl.run.id": trajectory.run_id,
        "agl.task.id": trajectory.task,
        "agl.split": trajectory.split,
        "agl.policy.id": trajectory.policy_id,
        "agl.attempt": trajectory.attempt,
        "agl.reward": trajectory.reward,
        "agl.usd": trajectory.usd,
        "agl.error_tags": [tag.name for tag in trajectory.features.error_tags] if trajectory.features else None,
    }
    if with_content:
        answer = trajectory.output if trajectory.output is not None else ""
        attributes["gen_ai.input.messages"] = _spelled([_text_message("user", trajectory.input)])
        attributes["gen_ai.output.messages"] = _spelled([_text_message("assistant", answer)])
        attributes["agl.expected"] = None if trajectory.expected is None else _spelled(trajectory.expected)
    return Span(
        trace_id=_hex(trajectory.id, 32),
        span_id=_hex(f"{trajectory.id}/", 16),
        name=f"invoke_agent {trajectory.agent_id}".strip(),
        start=trajectory.timestamp,
        end=end,
        attributes=_present(attributes),
        events=[_evaluation(reward, end, with_content=with_content) for reward in trajectory.rewards],
        error=trajectory.error if trajectory.status != "succeeded" else None,
    )


def _agent_span(trajectory: Trajectory, agent: str, steps: list[Step], root: Span) -> Span:
    return Span(
        trace_id=root.trace_id,
        span_id=_hex(f"{trajectory.id}/agent/{steps[0].index}", 16),
        parent_id=root.span_id,
        name=f"invoke_agent {agent}",
        start=min(step.started_at for step in steps),
        end=max(map(_end, steps)),
        attributes={**_named_agent(agent), "gen_ai.conversation.id": trajectory.id},
    )


def _step_span(step: Step, parent: Span, *, with_content: bool) -> Span:
    is_model = step.kind == "model"
    attributes = (_model_attributes if is_model else _tool_attributes)(step, with_content)
    if step.error:
        attributes["error.type"] = str(step.status) if step.status and step.status >= 400 else step.error.split(":")[0]
    name = (step.call.model if step.call else "") if is_model else step.name or ""
    return Span(
        trace_id=parent.trace_id,
        span_id=_hex(f"{step.rollout_id}/step/{step.id}/{step.index}", 16),
        parent_id=parent.span_id,
        name=f"{attributes['gen_ai.operation.name']} {name}".strip(),
        kind="client" if is_model else "internal",
        start=step.started_at,
        end=_end(step),
        attributes=_present({**attributes, "gen_ai.agent.name": step.agent, "agl.step.index": step.index}),
        error=step.error,
    )


def _model_attributes(step: Step, with_content: bool) -> dict[str, Any]:
    call, reply = step.call, step.reply
    host = urlsplit(step.endpoint or "").hostname or ""
    provider = next((name for end, name in _PROVIDERS if host == end or host.endswith(f".{end}")), None)
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider or ("anthropic" if step.dialect == "messages" else "openai"),
        "server.address": host or None,
        "http.response.status_code": step.status,
        "http.request.resend_count": step.retry or None,
        "agl.policy.id": step.policy_id,
    }
    if call:
        found |= {"gen_ai.request.model": call.model, "gen_ai.request.stream": call.stream or None}
        found |= {f"gen_ai.request.{name}": call.params[key] for key, name in _PARAMS.items() if _is_number(call, key)}
    if reply:
        found |= {"gen_ai.response.model": reply.model or None}
        found["gen_ai.response.finish_reasons"] = [reply.finish_reason] if reply.finish_reason else None
    if reply and (usage := reply.usage):
        found |= {"gen_ai.usage.input_tokens": usage.input_tokens, "gen_ai.usage.output_tokens": usage.output_tokens}
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens or None
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens or None
    return found | (_model_content(step) if with_content else {})


def _model_content(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if step.call:
        messages = [plain_message(message) for message in step.call.messages]
        told = [message for message in messages if message["role"] == "system"]
        found["gen_ai.input.messages"] = _spelled([_otel(m) for m in messages if m["role"] != "system"])
        parts = [part for message in told for part in _otel(message)["parts"]]
        found["gen_ai.system_instructions"] = _spelled(parts) if parts else None
        tools = [tool["function"] | {"type": "function"} for tool in plain_tools(step.call.tools)]
        found["gen_ai.tool.definitions"] = _spelled(tools) if tools else None
    if step.reply:
        answer = _otel(plain_message(step.reply.message)) | {"finish_reason": step.reply.finish_reason or "stop"}
        found["gen_ai.output.messages"] = _spelled([answer])
    ids = {name: getattr(step, name) for name in ("prompt_ids", "completion_ids", "logprobs")}
    return found | {f"agl.{name}": _spelled(value) for name, value in ids.items() if value is not None}


def _tool_attributes(step: Step, with_content: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": step.name,
        "gen_ai.tool.type": "function",
        "agl.step.kind": step.kind,
    }
    if with_content:
        found["gen_ai.tool.call.arguments"] = None if step.arguments is None else _spelled(step.arguments)
        found["gen_ai.tool.call.result"] = None if step.result is None else _spelled(step.result)
    return found


def _evaluation(reward: Reward, at: float, *, with_content: bool) -> Event:
    attributes: dict[str, Any] = {
        "gen_ai.evaluation.name": reward.name,
        "gen_ai.evaluation.score.value": reward.value,
        "gen_ai.evaluation.explanation": reward.reason if with_content else None,
        "agl.reward.source": reward.source,
        "agl.reward.is_metric": reward.is_metric or None,
    }
    return Event("gen_ai.evaluation.result", at, _present(attributes))


def _otel(message: Message) -> dict[str, Any]:
    """A chat message in the conventions' shape: a role and parts."""
    return {"role": message["role"], "parts": list(_parts(message))}


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    content: Any = message.get("content")
    if message["role"] == "tool":
        yield {"type": "tool_call_response", "id": message.get("tool_call_id"), "response": message_text(message)}
        return
    if isinstance(content, str) and content:
        yield {"type": "text", "content": content}
    elif isinstance(content, list):
        for part in content:
            is_text = isinstance(part, dict) and isinstance(part.get("text"), str)
            yield {"type": "text", "content": part["text"]} if is_text else {"type": "generic", "content": part}
    for call in message.get("tool_calls") or []:
        function = call["function"]
        yield {
            "type": "tool_call",
            "id": call["id"],
            "name": function["name"],
            "arguments": _structured(function["arguments"]),
        }


def _structured(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _text_message(role: str, value: Any) -> dict[str, Any]:
    text = value if isinstance(value, str) else _spelled(value)
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _named_agent(agent: str) -> dict[str, Any]:
    return {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent, "gen_ai.agent.id": agent}


def _is_number(call: Any, key: str) -> bool:
    return isinstance(call.params.get(key), int | float)


def _end(step: Step) -> float:
    return step.started_at + (step.latency_seconds or 0.0)


def _present(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None and value != ""}


def _spelled(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
