"""Span dumps become live rollouts, whichever instrumentation and exporter wrote them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.store.rollouts import add, assistant, model, rollout, user, weather

from agentlightning.data.call import Usage
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice
from agentlightning.store.exports.otlp import export_otlp_file
from agentlightning.store.imports.spans import read_traces

T0 = 1_767_323_045


def read(path: Path, *rows: Any) -> list[Trajectory]:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return list(read_traces(path))


def test_what_we_exported_comes_back_with_ids_rewards_and_steps(tmp_path: Path, store: Store) -> None:
    given = weather("r1", run_id="run", policy_id="p-1", expected="Grey.", usd=0.01)
    ids = rollout(
        "r2", output="x", steps=[model("r2", 0, [user("q")], assistant("x"), prompt_ids=[1], completion_ids=[2])]
    )

    async def scenario() -> None:
        await add(store, given, ids)
        await export_otlp_file(store, tmp_path / "spans.jsonl", Choice())

    asyncio.run(scenario())
    found, tokens = read_traces(tmp_path / "spans.jsonl")
    assert (found.id, found.agent_id, found.task, found.split) == ("r1", "main", "weather", "live")
    assert (found.input, found.output, found.expected) == ("Sky in Oslo?", "Grey.", "Grey.")
    assert (found.reward, found.rewards, found.usd) == (1.0, [Reward(1.0, "as expected")], 0.01)
    assert found.usage == Usage(20, 10)
    assert [step.kind for step in found.steps] == ["model", "tool", "model"]
    for step, before in zip(found.steps, given.steps, strict=True):
        assert (step.agent, step.name, step.arguments, step.result) == (
            before.agent, before.name, before.arguments, before.result,
        )  # fmt: skip
        if step.call and before.call and step.reply and before.reply:
            assert (step.call.model, step.call.params) == (before.call.model, before.call.params)
            assert step.call.tools == before.call.tools
            assert step.call.messages[:2] == before.call.messages[:2]
            assert step.reply.message.get("tool_calls") == before.reply.message.get("tool_calls")
            assert (step.reply.text, step.reply.usage) == (before.reply.text, before.reply.usage)
    assert (tokens.steps[0].prompt_ids, tokens.steps[0].completion_ids) == ([1], [2])


def openinference(**changes: Any) -> list[dict[str, Any]]:
    """As Phoenix exports them: nested attributes, one span a line."""

    def span(id: str, parent: str | None, kind: str, name: str, at: int, attributes: dict[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "context": {"trace_id": "t1", "span_id": id},
            "parent_id": parent,
            "span_kind": kind,
            "start_time": f"2026-01-02T03:04:{at:02}+00:00",
            "end_time": f"2026-01-02T03:04:{at + 1:02}+00:00",
            "status_code": "OK",
            "attributes": attributes,
            "events": [],
        }

    call = {"tool_call": {"id": "c1", "function": {"name": "look_up", "arguments": '{"city": "Oslo"}'}}}
    llm = {
        "llm": {
            "model_name": "gpt-4o",
            "input_messages": [
                {"message": {"role": "system", "content": "Be brief."}},
                {"message": {"role": "user", "contents": [{"message_content": {"type": "text", "text": "Sky?"}}]}},
            ],
            "output_messages": [{"message": {"role": "assistant", "tool_calls": [call]}}],
            "token_count": {"prompt": 12, "completion": 7, "prompt_details": {"cache_read": 4}},
            "invocation_parameters": '{"model": "gpt-4o", "temperature": 0}',
            "tools": [{"tool": {"json_schema": '{"type": "function", "function": {"name": "look_up"}}'}}],
        }
    }
    looked = {"input": {"value": '{"city": "Oslo"}'}, "output": {"value": "grey"}}
    return [
        span("a", None, "AGENT", "Weather", 5, {"input": {"value": "Sky?"}, "output": {"value": "Grey."}}),
        span("b", "a", "LLM", "ChatCompletion", 6, llm),
        {**span("c", "a", "TOOL", "look_up", 8, looked), **changes},
    ]


def test_openinference_spans_are_read(tmp_path: Path) -> None:
    [found] = read(tmp_path / "phoenix.jsonl", *openinference())
    assert (found.agent_id, found.input, found.output, found.seconds) == ("Weather", "Sky?", "Grey.", 4.0)
    called, looked = found.steps
    assert called.call and called.reply
    assert called.call.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Sky?"}]
    assert (called.call.model, called.call.params) == ("gpt-4o", {"temperature": 0})
    assert called.call.tools == [{"type": "function", "function": {"name": "look_up"}}]
    assert called.reply.message["tool_calls"][0]["function"] == {"name": "look_up", "arguments": '{"city": "Oslo"}'}
    assert called.reply.usage == Usage(12, 7, 4)
    assert (looked.kind, looked.name, looked.arguments, looked.result) == ("tool", "look_up", {"city": "Oslo"}, "grey")
    assert found.features and found.features.task_type == "tool_use"


def test_a_failed_span_is_a_step_with_its_error(tmp_path: Path) -> None:
    failed = openinference(status_code="ERROR", status_message="no such city")
    [found] = read(tmp_path / "phoenix.jsonl", *failed)
    assert found.steps[1].error == "no such city" and found.status == "succeeded"
    assert found.features and "tool_error" in [tag.name for tag in found.features.error_tags]


def console(id: str, parent: str | None, name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """As the SDK's console exporter writes a span."""
    return {
        "name": name,
        "context": {"trace_id": "0xAB", "span_id": f"0x{id}", "trace_state": "[]"},
        "kind": "SpanKind.CLIENT",
        "parent_id": parent and f"0x{parent}",
        "start_time": "2026-01-02T03:04:05.000000Z",
        "end_time": "2026-01-02T03:04:06.000000Z",
        "status": {"status_code": "UNSET"},
        "attributes": attributes,
        "events": [],
        "resource": {"attributes": {"service.name": "shop"}},
    }


def test_console_spans_with_genai_attributes_are_read_and_nested_model_spans_count_once(tmp_path: Path) -> None:
    asked = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    said = [{"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "stop"}]
    outer = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "claude",
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps(said),
        "gen_ai.usage.input_tokens": 3,
    }
    inner = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude"}
    [found] = read(
        tmp_path / "spans.jsonl", console("2", "1", "messages.create", inner), console("1", None, "chat", outer)
    )
    assert (found.agent_id, found.input, found.output, len(found.steps)) == ("shop", "Hi", "Hello", 1)


def test_traceloops_numbered_attributes_are_read(tmp_path: Path) -> None:
    attributes = {
        "llm.request.type": "chat",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Hi",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Hello",
        "gen_ai.completion.0.finish_reason": "stop",
        "gen_ai.usage.prompt_tokens": 3,
        "gen_ai.usage.completion_tokens": 2,
    }
    [found] = read(tmp_path / "spans.jsonl", console("1", None, "openai.chat", attributes))
    [step] = found.steps
    assert step.reply and (step.reply.text, step.reply.finish_reason, step.reply.usage) == (
        "Hello",
        "stop",
        Usage(3, 2),
    )


def test_one_pretty_printed_otlp_object_is_read_too(tmp_path: Path) -> None:
    span = {
        "traceId": "AB", "spanId": "1", "name": "chat", "startTimeUnixNano": str(T0 * 10**9),
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "input.value", "value": {"stringValue": "Hi"}},
        ],
    }  # fmt: skip
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}, indent=2))
    [found] = read_traces(path)
    assert (found.input, found.timestamp) == ("Hi", float(T0))


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"name": "x"}], r"line 1: no span.*found keys \['name'\]"),
        ([console("1", None, "GET /", {})], "1 spans, and none of them is a model call"),
    ],
)
def test_a_file_without_model_calls_is_refused(tmp_path: Path, rows: list[Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(tmp_path / "spans.jsonl", *rows)
