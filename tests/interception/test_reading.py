"""Whatever bytes come back, there is a step, and it can be stored."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx
import httpx2
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.interception.rollout import rollout
from tests.interception.test_chat import SHAPES
from tests.servers import chunks_of, completion_of

from agentlightning.data.trajectory import Step
from agentlightning.interception.dialects import DIALECTS, OllamaChat
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.recorder import Recorder

REQUEST = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
SSE = {"content-type": "text/event-stream"}


def exchange(
    body: bytes = REQUEST, headers: dict[Any, Any] | None = None, url: str = "http://h/v1/chat/completions"
) -> Exchange:
    return Recorder("r-1").open_call(agent="a", dialect=DIALECTS[0], url=url, headers=headers or {}, body=body)


def answered(
    content: bytes, *, status: int = 200, headers: dict[str, str] | None = None, partial: bool = False
) -> Step:
    told = exchange()
    told.answered(status, headers or {})
    told.feed(content)
    told.end(is_partial=partial)
    return told.to_step("r-1", "r-1.0")


BYTES = st.one_of(
    st.binary(max_size=100),
    SHAPES.map(lambda value: json.dumps(value).encode()),
    st.lists(SHAPES, max_size=4).map(
        lambda items: b"".join(b"data: " + json.dumps(i).encode() + b"\n\n" for i in items)
    ),
    st.binary(max_size=60).map(gzip.compress),
    st.binary(max_size=60).map(lambda raw: gzip.compress(raw)[:-9]),
)
HEADERS = st.dictionaries(
    st.sampled_from(["authorization", "x-stainless-retry-count", "cookie", "accept", b"x-api-key"]),
    st.text(max_size=30) | st.binary(max_size=30),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BYTES, BYTES, st.sampled_from([200, 204, 400, 500]), st.booleans(), st.booleans(), HEADERS)
def test_any_bytes_make_a_step_that_can_be_stored(
    request: bytes, content: bytes, status: int, is_stream: bool, partial: bool, headers: dict[Any, Any]
) -> None:
    told = exchange(request, headers)
    told.answered(status, SSE if is_stream else {})
    told.feed(content)
    told.end(is_partial=partial)
    step = told.to_step("r-1", "r-1.0")
    assert msgspec.json.decode(msgspec.json.encode(step), type=Step) == step


def test_deep_nesting_is_an_error_of_the_step() -> None:
    for content in (b"[" * 100_000, b'{"choices":' * 100_000, b'{"a":' * 900 + b"1" + b"}" * 900):
        told = exchange(content)
        told.answered(200, {})
        told.complete(content)
        step = told.to_step("r-1", "r-1.0")
        assert step.error and msgspec.json.encode(step)


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_compression_that_cannot_be_undone_is_an_error_of_the_step(library: Any) -> None:
    headers = {"content-encoding": "gzip"}
    transport = library.MockTransport(
        lambda _: library.Response(200, headers=headers, stream=library.ByteStream(b"xx"))
    )
    with (
        rollout() as recorder,
        library.Client(transport=transport) as client,
        client.stream("POST", "http://h/v1/chat/completions", content=REQUEST) as response,
    ):
        assert b"".join(response.iter_raw()) == b"xx"
    [step] = recorder.steps()
    assert step.error is not None and "(gzip) cannot be undone" in step.error and step.call is not None


def test_an_error_event_in_a_stream_is_the_steps_error() -> None:
    first = next(iter(chunks_of(completion_of("a", {}), include_usage=False)))
    content = b"".join(
        b"data: " + json.dumps(e).encode() + b"\n\n" for e in (first, {"error": {"message": "overloaded"}})
    )
    step = answered(content, headers=SSE)
    assert step.error == "overloaded" and step.reply is not None


def test_a_stream_without_events_is_an_error_unless_it_was_left() -> None:
    assert answered(b": hi\n\n", headers=SSE).error == "the stream ended without an event"
    assert answered(b"", headers=SSE, partial=True).error is None


def test_a_stream_whose_kind_nobody_named_is_read_as_one() -> None:
    step = answered(b'data: {"choices":[{"index":0,"delta":{"content":"hey"}}]}\n\ndata: [DONE]\n\n')
    assert step.reply is not None and step.reply.text == "hey"


def test_lines_whose_kind_nobody_named_are_read_as_a_stream() -> None:
    lines = [{"message": {"role": "assistant", "content": part}, "done": part == "you"} for part in ("hey ", "you")]
    for kind in ({}, {"content-type": "application/json"}):
        told = Recorder("r-1").open_call(
            agent="a", dialect=OllamaChat(), url="http://h/api/chat", headers={}, body=REQUEST
        )
        told.answered(200, kind)
        told.complete(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        step = told.to_step("r-1", "r-1.0")
        assert step.reply is not None and step.reply.text == "hey you"


def test_a_plain_answer_left_early_says_so() -> None:
    step = answered(b'{"choices": [', partial=True)
    assert step.is_partial and step.error == "the answer was not read to its end (it has 13 bytes)"


def test_a_stream_left_after_its_last_event_is_whole() -> None:
    assert not answered(b'data: {"choices":[]}\n\ndata: [DONE]\n\n', headers=SSE, partial=True).is_partial


def test_a_refusal_nobody_read_still_has_its_status() -> None:
    step = answered(b"", status=429, partial=True)
    assert (step.status, step.error) == (429, "HTTP 429: ")


def test_what_happens_after_the_end_changes_nothing() -> None:
    ended: list[Exchange] = []
    told = exchange()
    told._on_end = ended.append
    told.answered(200, {})
    told.complete(json.dumps(completion_of("fine", {})).encode())
    told.fail(ValueError("late"))
    told.end(is_partial=True)
    step = told.to_step("r-1", "r-1.0")
    assert (step.error, step.is_partial, len(ended)) == (None, False, 1)


def test_an_address_keeps_host_and_path_only() -> None:
    told = exchange(url="https://user:pa55word@[::1]:8443/v1/chat/completions?key=k#f")
    assert told.to_step("r", "r.0").endpoint == "https://[::1]:8443/v1/chat/completions"
