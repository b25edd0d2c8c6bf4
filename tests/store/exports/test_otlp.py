"""Spans reach a collector as OTLP JSON, nested and named by the GenAI conventions, without secrets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests.store.rollouts import SYSTEM, add, assistant, model, rollout, tool, user, weather

from agentlightning.data.spans import spans
from agentlightning.data.trajectory import ErrorTag, Features, Reward
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice
from agentlightning.store.exports.otlp import export_otlp, export_otlp_file
from agentlightning.store.exports.protobuf import to_protobuf


class Collector:
    """A small OTLP/HTTP receiver: keeps requests, answers what it is told to."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes, dict[str, str]]] = []
        self.takes_json = True
        self.protobuf: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                form = self.headers["content-type"]
                if form != "application/json" or not collector.takes_json:
                    collector.protobuf += [body] if form == "application/x-protobuf" else []
                    self.send_response(200 if form == "application/x-protobuf" else 415)
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                status, text, headers = collector.answers.pop(0) if collector.answers else (200, b"{}", {})
                if status == 200:
                    headers_seen = {name.lower(): value for name, value in self.headers.items()}
                    collector.requests.append((headers_seen, json.loads(body)))
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"

    def spans(self) -> list[dict[str, Any]]:
        return [span for _, body in self.requests for span in spans_of(body)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    opened = Collector()
    thread = Thread(target=opened.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield opened
    opened.server.shutdown()
    opened.server.server_close()
    thread.join()


def spans_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for resource in request["resourceSpans"] for scope in resource["scopeSpans"] for s in scope["spans"]]


def attributes(item: dict[str, Any]) -> dict[str, Any]:
    return {entry["key"]: next(iter(entry["value"].values())) for entry in item["attributes"]}


def test_a_rollout_arrives_as_nested_spans_with_its_rewards(store: Store, collector: Collector) -> None:
    async def scenario() -> None:
        features = Features(error_tags=[ErrorTag("tool_error")])
        await add(store, weather("r1", features=features, policy_id="p-1", rewards=[Reward(1.0, "right", "exact")]))
        report = await export_otlp(store, collector.url, Choice())
        assert (report.num_rows, report.num_rollouts) == (4, 1)

    asyncio.run(scenario())
    headers, _ = collector.requests[0]
    assert headers["content-type"] == "application/json"
    root, first, looked, last = collector.spans()
    assert [s["name"] for s in (root, first, looked, last)] == [
        "invoke_agent main", "chat gpt-5", "execute_tool look_up", "chat gpt-5",
    ]  # fmt: skip
    assert "parentSpanId" not in root
    assert {s["parentSpanId"] for s in (first, looked, last)} == {root["spanId"]}
    assert len({s["traceId"] for s in (root, first, looked, last)}) == 1 and len(root["traceId"]) == 32
    assert (first["kind"], looked["kind"]) == (3, 1)
    assert (root["startTimeUnixNano"], root["endTimeUnixNano"]) == ("100000000000", "104000000000")

    top = attributes(root)
    assert (top["gen_ai.operation.name"], top["gen_ai.agent.name"], top["agl.rollout.id"]) == (
        "invoke_agent",
        "main",
        "r1",
    )
    [event] = root["events"]
    assert event["name"] == "gen_ai.evaluation.result"
    assert attributes(event) == {
        "gen_ai.evaluation.name": "exact",
        "gen_ai.evaluation.score.value": 1.0,
        "gen_ai.evaluation.explanation": "right",
        "agl.reward.source": "function",
    }

    call = attributes(first)
    assert (call["gen_ai.provider.name"], call["gen_ai.request.model"], call["gen_ai.response.model"]) == (
        "openai", "gpt-5", "gpt-5-2025",
    )  # fmt: skip
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.request.temperature"]) == ("10", 0.5)
    assert call["gen_ai.response.finish_reasons"] == {"values": [{"stringValue": "tool_calls"}]}
    assert json.loads(call["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be brief."}]
    [answer] = json.loads(call["gen_ai.output.messages"])
    assert answer["parts"] == [{"type": "tool_call", "id": "c1", "name": "look_up", "arguments": {"city": "Oslo"}}]
    shown = json.loads(attributes(last)["gen_ai.input.messages"])[-1]
    assert shown == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "grey"}]}
    assert json.loads(attributes(looked)["gen_ai.tool.call.result"]) == {"sky": "grey"}


def test_another_agents_steps_hang_under_a_span_of_its_own() -> None:
    steps = [
        model("r", 0, [user("q")], assistant("a")),
        model("r", 1, [user("sub")], assistant("b"), agent="helper"),
        model("r", 2, [user("q2")], assistant("c")),
    ]
    root, first, helper, inner, last = spans(rollout("r", steps=steps))
    assert (helper.name, helper.parent_id, inner.parent_id) == ("invoke_agent helper", root.span_id, helper.span_id)
    assert first.parent_id == last.parent_id == root.span_id
    assert (helper.start, helper.end) == (101.0, 101.5)


def test_failures_are_errors_and_exporting_twice_gives_the_same_spans() -> None:
    failed = rollout(
        "r",
        status="failed",
        error="boom",
        steps=[model("r", 0, [SYSTEM], assistant("x"), error="HTTP 500"), tool("r", 1)],
    )
    root, call, _ = spans(failed)
    assert (root.error, call.error, call.attributes["error.type"]) == ("boom", "HTTP 500", "HTTP 500")
    assert spans(failed) == spans(failed)


def test_without_content_no_text_of_the_user_or_the_model_goes_out() -> None:
    quiet = str(spans(weather("r"), with_content=False))
    assert "gpt-5" in quiet and not any(word in quiet for word in ("Oslo", "Grey", "grey", "brief", "expected"))


def test_secrets_stay_here_and_personal_data_too_when_asked(tmp_path: Path, store: Store) -> None:
    secret = "sk-" + "a1" * 20

    async def scenario() -> None:
        step = model("r", 0, [user(f"my key is {secret}, mail ann@x.org")], assistant("ok"), prompt_ids=[1, 2])
        await add(store, rollout("r", input=f"Bearer {secret}", metadata={"api_key": secret}, steps=[step]))
        await export_otlp_file(store, tmp_path / "spans.jsonl", Choice(is_masked=True))

    asyncio.run(scenario())
    text = (tmp_path / "spans.jsonl").read_text()
    assert secret not in text and "[secret]" in text
    assert "ann@x.org" not in text and "[email_1]" in text
    assert "prompt_ids" not in text


def test_a_file_holds_one_request_per_rollout_and_line(tmp_path: Path, store: Store) -> None:
    async def scenario() -> None:
        await add(store, weather("r1"), weather("r2"))
        assert (await export_otlp_file(store, tmp_path / "spans.jsonl", Choice())).num_rows == 8

    asyncio.run(scenario())
    lines = (tmp_path / "spans.jsonl").read_text().splitlines()
    assert [len(spans_of(json.loads(line))) for line in lines] == [4, 4]


def test_many_rollouts_go_out_in_several_requests(store: Store, collector: Collector) -> None:
    async def scenario() -> None:
        long = [model("x", 0, [user("long " * 100_000)], assistant("ok"))]
        await add(store, *(rollout(f"r{n}", steps=long) for n in range(9)))
        await export_otlp(store, collector.url, Choice())

    asyncio.run(scenario())
    assert len(collector.requests) == 2 and len(collector.spans()) == 18


def test_headers_come_from_the_environment_and_the_call(
    store: Store, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc,x-project=one")

    async def scenario() -> None:
        await add(store, weather("r"))
        await export_otlp(store, collector.url, Choice(), headers={"x-project": "two"})

    asyncio.run(scenario())
    headers, _ = collector.requests[0]
    assert (headers["authorization"], headers["x-project"]) == ("Basic abc", "two")


def test_a_busy_collector_is_tried_again(store: Store, collector: Collector) -> None:
    collector.answers = [(503, b"", {"retry-after": "0"}), (429, b"", {"retry-after": "0"})]

    async def scenario() -> None:
        await add(store, weather("r"))
        await export_otlp(store, collector.url, Choice())

    asyncio.run(scenario())
    assert len(collector.spans()) == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((401, b"no", {}), r"refused the spans \(HTTP 401: no\). Give its key: --header"),
        ((404, b"", {}), "usually /v1/traces"),
        (
            (200, b'{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "too old"}}', {}),
            "rejected 3 spans: too old",
        ),
    ],
)
def test_what_a_collector_refuses_is_a_clear_error(
    store: Store, collector: Collector, answer: tuple[int, bytes, dict[str, str]], says: str
) -> None:
    collector.answers = [answer]

    async def scenario() -> None:
        await add(store, weather("r"))
        await export_otlp(store, collector.url, Choice())

    with pytest.raises(StoreError, match=says):
        asyncio.run(scenario())


def test_a_collector_that_takes_only_protobuf_gets_protobuf(store: Store, collector: Collector) -> None:
    collector.takes_json = False

    async def scenario() -> None:
        await add(store, *(weather(f"r{n}", f"{'long ' * 200_000}{n}") for n in range(4)))
        assert (await export_otlp(store, collector.url, Choice())).num_rows == 16

    asyncio.run(scenario())
    assert collector.requests == [] and len(collector.protobuf) > 1
    assert sum(body.count(b"invoke_agent main") for body in collector.protobuf) == 4


def test_protobuf_is_byte_for_byte_what_the_official_library_writes() -> None:
    """The wanted bytes are opentelemetry-proto's for the same request."""
    values = [
        {"key": "text", "value": {"stringValue": "hi"}},
        {"key": "yes", "value": {"boolValue": True}},
        {"key": "minus", "value": {"intValue": "-3"}},
        {"key": "half", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": "300"}]}}},
    ]
    span = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "parentSpanId": "ef" * 8,
        "name": "é",
        "kind": 3,
        "startTimeUnixNano": "1500000000",
        "endTimeUnixNano": "2500000000",
        "attributes": values,
        "events": [{"timeUnixNano": "2000000000", "name": "e", "attributes": []}],
        "status": {"message": "bad", "code": 2},
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}
    scope = {"scope": {"name": "n"}, "spans": [span]}
    request = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    assert to_protobuf(json.dumps(request).encode()).hex() == (
        "0acf010a150a130a0c736572766963652e6e616d6512030a017312b5010a030a016e12ad010a10abababababababababababababababab"
        "1208cdcdcdcdcdcdcdcd2208efefefefefefefef2a02c3a9300339002f6859000000004100f90295000000004a0c0a047465787412040a"
        "0268694a090a03796573120210014a140a056d696e7573120b18fdffffffffffffffff014a110a0468616c66120921000000000000e03f"
        "4a140a046c697374120c2a0a0a030a01610a0318ac025a0c0900943577000000001201657a0712036261641802"
    )


def test_an_endpoint_that_is_no_url_is_refused(store: Store) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        asyncio.run(export_otlp(store, "localhost:4318", Choice()))
