"""What holds for the answers of every dialect: what is written reads back, whole, streamed, and cut short."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response, StreamingResponse
from tests.contract.dialects.cases import CALLED, CASES, MULTIPLY, QUESTION, REPLIES, SAID, TEXT, Case
from tests.interception.rollout import rollout
from tests.interception.test_chat import SHAPES
from tests.servers import FakeOpenAI

from agentlightning.data.call import Reply
from agentlightning.errors import DataError
from agentlightning.interception.endpoint import seen_endpoint

NAMED = {"id": "r1", "created": 1_700_000_000.25}
PAIRS = [(case, reply) for case in CASES for reply in REPLIES if CASES[case].has_tools or "tool" not in reply]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def respond(case: Case, reply: Reply) -> dict[str, Any]:
    return case.dialect.respond(reply, case.call(), **NAMED)


def stream(case: Case, reply: Reply, **options: Any) -> list[bytes]:
    return list(case.dialect.respond_stream(reply, case.call(), **NAMED, **options))


def assembled(case: Case, content: bytes) -> Reply:
    return case.dialect.assemble(case.dialect.events(content))


@pytest.mark.parametrize(("name", "reply"), PAIRS)
def test_a_written_answer_reads_back(name: str, reply: str) -> None:
    case, expected = CASES[name], REPLIES[reply]
    body = respond(case, expected)
    assert case.dialect.reply(body) == case.stored(expected)
    assert msgspec.json.decode(msgspec.json.encode(body)) == body


@pytest.mark.parametrize(("name", "reply"), PAIRS)
def test_a_written_stream_adds_up_to_the_same(name: str, reply: str) -> None:
    case, expected = CASES[name], REPLIES[reply]
    assert assembled(case, b"".join(stream(case, expected))) == case.stored(expected)


def test_text_is_streamed_in_several_pieces(case: Case) -> None:
    assert len(stream(case, SAID)) >= len(stream(case, REPLIES["one letter"])) + 3


def test_an_answer_names_the_asked_model_when_the_reply_names_none(case: Case) -> None:
    assert respond(case, Reply({"role": "assistant", "content": "x"}))["model"] == "m"


def test_an_answer_without_a_finish_reason_is_a_finished_one(case: Case) -> None:
    written = respond(case, Reply({"role": "assistant", "content": "x"}))
    assert case.dialect.reply(written).finish_reason == "stop"
    if case.has_tools:
        written = respond(case, Reply({"role": "assistant", "content": None, "tool_calls": [MULTIPLY]}))
        assert case.dialect.reply(written).finish_reason == "tool_calls"


def test_only_the_last_event_ends_a_stream(case: Case) -> None:
    *events, last = stream(case, SAID)
    assert not case.dialect.stream_end.search(b"".join(events))
    assert case.dialect.stream_end.search(last)


def test_a_stream_cut_anywhere_adds_up_to_the_text_so_far(case: Case) -> None:
    content = b"".join(stream(case, SAID))
    seen: set[str] = set()
    for cut in range(0, len(content), 7):
        try:
            text = assembled(case, content[:cut]).text
        except DataError:
            continue
        assert TEXT.startswith(text)
        seen.add(text)
    assert len(seen) > 3


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.has_tools])
def test_a_tool_call_cut_anywhere_keeps_the_arguments_so_far(name: str) -> None:
    case = CASES[name]
    arguments = MULTIPLY["function"]["arguments"]
    for event in range(1, len(events := stream(case, CALLED))):
        for call in assembled(case, b"".join(events[:event])).message.get("tool_calls", []):
            assert arguments.startswith(call["function"]["arguments"]) or call["function"]["arguments"] == "{}"


def test_an_error_is_told(case: Case) -> None:
    assert case.dialect.failure({"error": {"message": "overloaded", "type": "x"}}) == "overloaded"
    assert case.dialect.failure({"error": "overloaded"}) == "overloaded"
    assert all(case.dialect.failure(event) is None for event in case.dialect.events(b"".join(stream(case, SAID))))


def test_what_is_no_response_is_refused(case: Case) -> None:
    for body in ({}, {"error": {"message": "busy"}}, {"choices": 1, "output": 1, "content": 1, "message": 1}):
        with pytest.raises(DataError):
            case.dialect.reply(body)


WORDS = (
    *("type", "role", "content", "text", "tool_calls", "function", "arguments", "index", "usage", "model", "delta"),
    *(
        "message",
        "messages",
        "choices",
        "output",
        "input",
        "item",
        "output_index",
        "response",
        "instructions",
        "system",
    ),
    *("content_block", "stop_reason", "prompt", "images", "options", "tools", "status", "logprobs", "call_id", "id"),
)
TYPES = st.sampled_from(
    (
        *("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "text", "input_text"),
        *("tool_use", "tool_result", "thinking", "image", "message_start", "content_block_start", "text_delta"),
        *("content_block_delta", "message_delta", "input_json_delta", "response.output_item.added", "base64"),
        *("response.output_text.delta", "response.completed", "user", "assistant", "system", "tool", "image_url"),
    )
)
BODIES = (
    st.recursive(
        SHAPES | TYPES | st.integers(0, 2),
        lambda inner: st.dictionaries(st.sampled_from(WORDS), inner | st.lists(inner, max_size=3), max_size=5),
        max_leaves=24,
    )
    .filter(lambda value: isinstance(value, dict))
    .map(lambda value: msgspec.json.decode(msgspec.json.encode(value)))
)


@given(st.sampled_from(list(CASES)), st.lists(BODIES, min_size=1, max_size=4))
def test_nothing_upsets_a_dialect_and_what_it_reads_can_be_stored(name: str, bodies: list[dict[str, Any]]) -> None:
    case, stored = CASES[name], []
    dialect, body = case.dialect, bodies[0]
    for read in (dialect.reply, lambda given: dialect.call(given, "a"), lambda _: dialect.assemble(bodies)):
        try:
            stored.append(read(body))
        except DataError:
            continue
    for value in stored:
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
    assert all(isinstance(dialect.failure(event), str | None) for event in bodies)
    try:
        call = dialect.call(body, "a")
    except DataError:
        return
    assert dialect.rewrite(body, call, call) == body


@given(st.sampled_from(list(CASES)), st.binary(max_size=200))
def test_any_bytes_are_a_stream_of_some_events(name: str, content: bytes) -> None:
    assert all(isinstance(event, dict) for event in CASES[name].dialect.events(content))


def server_answer(case: Case, reply: Reply) -> Any:
    def answer(body: dict[str, Any]) -> Response:
        call = case.dialect.call(body, "server", case.path)
        if not call.stream:
            return JSONResponse(case.dialect.respond(reply, call, **NAMED))
        kind = "application/x-ndjson" if "ollama" in case.dialect.name else "text/event-stream"
        events = case.dialect.respond_stream(reply, call, **NAMED, with_usage=case.dialect.wants_usage(body))
        return StreamingResponse(events, media_type=kind)

    return answer


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_call_in_a_rollout_is_recorded_as_it_went(case: Case, is_streamed: bool) -> None:
    with FakeOpenAI() as server, rollout("ada") as recorder, httpx.Client() as client:
        server.route(case.path, server_answer(case, SAID))
        seen = client.post(server.url + case.path, json=case.plain | {"stream": is_streamed}).content
    [step] = recorder.steps()
    assert (step.dialect, step.status, step.error, step.is_partial) == (case.dialect.name, 200, None, False)
    assert step.reply == case.stored(SAID)
    assert step.call is not None and step.call.messages == [{"role": "user", "content": QUESTION}]
    assert case.dialect.assemble(case.dialect.events(seen)).text == TEXT or not is_streamed
    [exchange] = recorder.exchanges()
    endpoint = seen_endpoint(exchange)
    assert endpoint is not None and endpoint.base_url + case.dialect.path_suffix == server.url + case.path


def test_a_stream_left_in_its_middle_is_a_partial_step_with_what_came(case: Case) -> None:
    with FakeOpenAI(chunk_delay_seconds=0) as server, rollout("ada") as recorder, httpx.Client() as client:
        server.route(case.path, server_answer(case, SAID))
        body = case.plain | {"stream": True}
        with client.stream("POST", server.url + case.path, json=body) as response:
            lines = response.iter_lines()
            while "two" not in next(lines):
                pass
    [step] = recorder.steps()
    assert step.error is None and step.reply is not None and TEXT.startswith(step.reply.text)
    assert "two" in step.reply.text


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.dialect.marks])
def test_an_other_api_at_the_same_path_is_left_alone(name: str) -> None:
    case = CASES[name]
    with FakeOpenAI() as server, rollout("ada") as recorder, httpx.Client() as client:
        server.route(case.path, {"sent": True})
        client.post(server.url + case.path, json={"to": "+44", "text": "hello"})
    assert recorder.steps() == []
