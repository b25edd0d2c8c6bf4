"""Traces as trajectories: one trace is one rollout, its model and tool spans are the steps.

OpenTelemetry GenAI, OpenInference (Phoenix) and Traceloop attributes are told apart span by span, so a trace may mix
them. What we exported ourselves comes back with its ids, rewards and token ids.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec

from agentlightning.data.call import Call, Reply, message_text
from agentlightning.data.trajectory import Reward, RolloutStatus, Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.imports import span_messages as messages
from agentlightning.store.imports.base import content_id, live, numbered
from agentlightning.store.imports.span_files import LoggedSpan, read_spans

Role = Literal["model", "tool", "agent", "other"]

_MODEL_OPERATIONS = frozenset({"chat", "text_completion", "generate_content", "completion"})
_STATUSES: tuple[str, ...] = get_args(RolloutStatus)


def read_traces(path: str | Path) -> Generator[Trajectory]:
    """One trajectory per trace that called a model; traces without a model call are left out.

    Input and output are the outermost span's, else the first user message and the last answer. Rewards are
    `gen_ai.evaluation.result` events. DataError when the file holds no spans, or none of them called a model.
    """
    path = Path(path)
    traces: defaultdict[str, list[LoggedSpan]] = defaultdict(list)
    for span in read_spans(path):
        traces[span.trace_id].append(span)
    num_read = 0
    for spans in traces.values():
        if (trajectory := _trajectory(spans)) is not None:
            num_read += 1
            yield trajectory
    if not num_read:
        raise DataError(
            f"{path}: {sum(map(len, traces.values()))} spans, and none of them is a model call (gen_ai.operation.name, "
            "openinference.span.kind or llm.request.type). Was the agent traced with a GenAI instrumentation?"
        )


def _trajectory(spans: list[LoggedSpan]) -> Trajectory | None:
    tree = _Tree(spans)
    root = tree.root
    id = str(root.attributes.get("agl.rollout.id") or content_id("r", root.trace_id))
    steps = numbered([_step(span, id, tree) for span in tree.steps])
    if not any(step.kind == "model" for step in steps):
        return None
    said = [step for step in steps if step.call and step.call.messages]
    rewards = [reward for span in spans for reward in _rewards(span)]
    maximised = next((reward.value for reward in rewards if not reward.is_metric), None)
    agent = tree.agent_of(root)
    status = root.attributes.get("agl.rollout.status")
    expected = root.attributes.get("agl.expected")
    return live(
        Trajectory(
            id=id,
            agent_id=agent if agent != "agent" or not said else said[0].agent,
            task=str(root.attributes.get("agl.task.id") or ""),
            input=_input(root, said),
            output=_output(root, steps),
            reward=root.attributes.get("agl.reward", maximised),
            timestamp=root.start,
            seconds=max(span.end for span in spans) - root.start,
            status=cast(RolloutStatus, status) if status in _STATUSES else "failed" if root.error else "succeeded",
            error=root.error,
            expected=messages.decoded(expected),
            metadata={"trace_id": root.trace_id},
            steps=steps,
            rewards=rewards,
            usd=root.attributes.get("agl.usd"),
        )
    )


class _Tree:
    """The spans of one trace by who called whom."""

    def __init__(self, spans: list[LoggedSpan]) -> None:
        ordered = sorted(spans, key=lambda span: span.start)
        self._by_id = {span.span_id: span for span in ordered}
        self.root = next((span for span in ordered if span.parent_id not in self._by_id), ordered[0])
        # Two instrumentations of one call nest: the outer one counts.
        self.steps = [span for span in ordered if role(span) in ("model", "tool") and not self._is_within_model(span)]

    def agent_of(self, span: LoggedSpan) -> str:
        """The nearest agent around a span, by name."""
        for around in [span, *self._around(span)]:
            attributes = around.attributes
            named = (
                attributes.get("gen_ai.agent.name") or attributes.get("agent.name") or attributes.get("graph.node.id")
            )
            if named:
                return str(named)
            if role(around) == "agent":
                return around.name
        return str(self.root.attributes.get("service.name") or "agent")

    def _is_within_model(self, span: LoggedSpan) -> bool:
        return role(span) == "model" and any(role(around) == "model" for around in self._around(span))

    def _around(self, span: LoggedSpan) -> list[LoggedSpan]:
        found: list[LoggedSpan] = []
        parent = self._by_id.get(span.parent_id)
        while parent is not None and parent not in found and parent is not span:
            found.append(parent)
            parent = self._by_id.get(parent.parent_id)
        return found


def role(span: LoggedSpan) -> Role:
    """What a span is, by the attributes of any of the three conventions."""
    kind = str(
        span.attributes.get("openinference.span.kind") or span.attributes.get("traceloop.span.kind") or ""
    ).lower()
    operation = span.attributes.get("gen_ai.operation.name")
    if operation in _MODEL_OPERATIONS or kind == "llm" or "llm.request.type" in span.attributes:
        return "model"
    if operation == "execute_tool" or kind == "tool":
        return "tool"
    return "agent" if operation in ("invoke_agent", "create_agent") or kind == "agent" else "other"


def _step(span: LoggedSpan, rollout_id: str, tree: _Tree) -> Step:
    step = Step(
        id=span.span_id,
        rollout_id=rollout_id,
        index=0,
        kind="model",
        agent=tree.agent_of(span),
        started_at=span.start,
        latency_seconds=max(0.0, span.end - span.start),
        error=span.error,
    )
    return _model_step(step, span.attributes) if role(span) == "model" else _tool_step(step, span)


def _model_step(step: Step, attributes: dict[str, Any]) -> Step:
    model = str(attributes.get("gen_ai.request.model") or attributes.get("llm.model_name") or "")
    call = Call(
        step.agent, model, messages.asked(attributes), messages.offered(attributes), messages.params(attributes)
    )
    message, reason = messages.answered(attributes)
    usage, served = messages.usage(attributes), str(attributes.get("gen_ai.response.model") or model)
    reply = None if message is None else Reply(message, reason, usage, served)
    status = attributes.get("http.response.status_code")
    ids = {
        name: messages.decoded(attributes.get(f"agl.{name}")) for name in ("prompt_ids", "completion_ids", "logprobs")
    }
    return msgspec.structs.replace(step, call=call, reply=reply, status=status, **ids)


def _tool_step(step: Step, span: LoggedSpan) -> Step:
    attributes = span.attributes
    name = attributes.get("gen_ai.tool.name") or attributes.get("tool.name") or attributes.get("traceloop.entity.name")
    given = ("gen_ai.tool.call.arguments", "tool.parameters", "input.value", "traceloop.entity.input")
    gave = ("gen_ai.tool.call.result", "output.value", "traceloop.entity.output")
    return msgspec.structs.replace(
        step,
        kind="function" if attributes.get("agl.step.kind") == "function" else "tool",
        name=str(name or span.name),
        arguments=messages.decoded(_first(attributes, given)),
        result=messages.decoded(_first(attributes, gave)),
    )


def _rewards(span: LoggedSpan) -> list[Reward]:
    found: list[Reward] = []
    for name, attributes in span.events:
        value = attributes.get("gen_ai.evaluation.score.value")
        if name == "gen_ai.evaluation.result" and isinstance(value, int | float):
            source = attributes.get("agl.reward.source", "judge")
            reason, label = attributes.get("gen_ai.evaluation.explanation"), attributes.get("gen_ai.evaluation.name")
            is_metric = bool(attributes.get("agl.reward.is_metric"))
            known = source if source in ("function", "emitted", "expected", "judge", "human") else "judge"
            found.append(Reward(float(value), reason, str(label or "reward"), cast(Any, known), is_metric))
    return found


def _input(root: LoggedSpan, said: list[Step]) -> str | dict[str, Any]:
    if role(root) != "model" and (asked := messages.asked(root.attributes)):
        text = next((message_text(m) for m in asked if m["role"] == "user"), "") or message_text(asked[-1])
    else:
        first = said[0].call.messages if said and said[0].call else []
        text = next((message_text(m) for m in first if m["role"] == "user"), "") or "".join(
            map(message_text, first[-1:])
        )
    value = messages.decoded(text)
    return value if isinstance(value, dict) and value else text or "(the log holds no input)"


def _output(root: LoggedSpan, steps: list[Step]) -> Any:
    if role(root) != "model" and (message := messages.answered(root.attributes)[0]) is not None:
        value = messages.decoded(message_text(message))
        return value if isinstance(value, dict | list) else message_text(message)
    return next((step.reply.text for step in reversed(steps) if step.reply and step.reply.text), None)


def _first(attributes: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((attributes[name] for name in names if name in attributes), None)
