"""Every transport tells the same story of the same call."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from typing import Any

import msgspec
import pytest
from starlette.responses import JSONResponse, Response
from tests.interception.rollout import HEADERS, KEY, QUESTION, STREAMED, TRANSPORTS, Answer, post, rollout
from tests.servers import FakeOpenAI, chunks_of, completion_of

from agentlightning.data.call import Usage
from agentlightning.data.resource import Policy
from agentlightning.errors import RolloutStopped
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.sse import events


class Breaking(Response):
    """Half of a stream, then the connection is closed."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = [(b"content-type", b"text/event-stream"), (b"content-length", b"100000")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        for event in list(chunks_of(completion_of("one two three", {}), include_usage=False))[:3]:
            await send({"type": "http.response.body", "body": _data(event), "more_body": True})
        send.__self__.transport.close()
        await asyncio.sleep(0.005)


def _data(event: Any) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)
PATH = "/v1/chat/completions"


def test_a_plain_call_becomes_a_step(transport: str) -> None:
    with FakeOpenAI("blue sky") as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, QUESTION)
    [step] = recorder.steps()
    assert json.loads(answer.body)["choices"][0]["message"]["content"] == "blue sky"
    assert (step.kind, step.agent, step.index, step.dialect, step.status) == ("model", "helper", 0, "chat", 200)
    assert step.call is not None and step.call.model == "m-1" and step.call.messages == QUESTION["messages"]
    assert step.reply is not None and step.reply.text == "blue sky"
    assert step.reply.usage == Usage(input_tokens=3, output_tokens=2)
    assert step.endpoint == server.url + PATH
    assert step.latency_seconds is not None and 0 < step.latency_seconds < 5
    assert (step.is_partial, step.error, step.policy_id) == (False, None, "original")


def test_a_plain_call_sends_the_agents_own_bytes(transport: str) -> None:
    body = b'{ "model":"m-1", "messages": [] , "seed": 12345678901234567890123, "x": "\\u00e9" }'
    with FakeOpenAI() as server, rollout():
        post(transport, server.url + PATH, content=body)
    assert server.requests[0].body == body


def test_a_streamed_call_is_put_together_with_the_usage_it_did_not_ask_for(transport: str) -> None:
    with FakeOpenAI("one two three") as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, STREAMED, stream=True)
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two three"
    assert step.reply.usage == Usage(input_tokens=3, output_tokens=3)
    assert step.reply.finish_reason == "stop"
    assert step.call is not None and step.call.stream and not step.is_partial
    assert all(event["choices"] for event in events(answer.body)), "the usage event must not reach the agent"
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert server.requests[0].json == STREAMED | {"stream_options": {"include_usage": True}}
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_streamed_tool_calls_are_put_together(transport: str) -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": 17}'}}
    with FakeOpenAI({"tool_calls": [called, called | {"id": "c2"}]}) as server, rollout() as recorder:
        post(transport, server.url + PATH, STREAMED, stream=True)
    [step] = recorder.steps()
    assert step.reply is not None
    assert step.reply.message == {"role": "assistant", "content": None, "tool_calls": [called, called | {"id": "c2"}]}
    assert step.reply.finish_reason == "tool_calls"


def test_a_stream_that_is_not_read_piece_by_piece_is_the_same(transport: str) -> None:
    with FakeOpenAI("one two") as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, STREAMED)
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two" and step.reply.usage is not None
    assert answer.body.endswith(b"data: [DONE]\n\n")


def test_a_plain_answer_read_as_a_stream_is_the_same(transport: str) -> None:
    with FakeOpenAI("one two") as server, rollout() as recorder:
        post(transport, server.url + PATH, QUESTION, stream=True)
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.text == "one two" and not step.is_partial


@pytest.mark.parametrize("stream", [False, True])
def test_a_compressed_answer_is_read(transport: str, stream: bool) -> None:
    body = STREAMED if stream else QUESTION
    with FakeOpenAI("one two three", gzip=True) as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, body, stream=stream)
    [step] = recorder.steps()
    assert step.error is None and step.reply is not None and step.reply.text == "one two three"
    assert step.reply.usage == Usage(input_tokens=3, output_tokens=3)
    if stream:
        assert [event for event in events(answer.body) if not event["choices"]] == []
    else:
        assert json.loads(answer.body)["choices"]


def test_a_compressed_stream_nobody_edits_is_read(transport: str) -> None:
    body = STREAMED | {"stream_options": {"include_usage": True}}
    with FakeOpenAI("one two three", gzip=True) as server, rollout() as recorder:
        post(transport, server.url + PATH, body, stream=True)
    [step] = recorder.steps()
    assert step.error is None and step.reply is not None and step.reply.text == "one two three"


def test_an_agent_that_asks_for_usage_itself_gets_it(transport: str) -> None:
    body = STREAMED | {"stream_options": {"include_usage": True}}
    with FakeOpenAI("one") as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, body, stream=True)
    assert [event["usage"]["completion_tokens"] for event in events(answer.body) if not event["choices"]] == [1]
    assert server.requests[0].json == body
    [step] = recorder.steps()
    assert step.reply is not None and step.reply.usage is not None


def test_other_stream_options_are_kept(transport: str) -> None:
    body = STREAMED | {"stream_options": {"include_obfuscation": False}}
    with FakeOpenAI("one") as server, rollout():
        post(transport, server.url + PATH, body, stream=True)
    assert server.requests[0].json["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize("status", [400, 422])
def test_an_endpoint_that_refuses_to_be_asked_for_usage_is_asked_without(transport: str, status: int) -> None:
    def strict(body: dict[str, Any]) -> Any:
        if "stream_options" in body:
            return JSONResponse({"error": {"message": "Unknown field: stream_options"}}, status)
        return "fine"

    with FakeOpenAI(strict) as server, rollout() as recorder:
        answer = post(transport, server.url + PATH, STREAMED, stream=True)
    [step] = recorder.steps()
    assert answer.status == 200 and step.status == 200
    assert step.reply is not None and step.reply.text == "fine" and step.reply.usage is None
    assert server.requests[1].json == STREAMED


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize("body", [QUESTION, STREAMED])
def test_a_refusal_is_told_in_the_servers_words(transport: str, status: int, body: dict[str, Any]) -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        server.next_status(status)
        answer = post(transport, server.url + PATH, body, stream="stream" in body)
    [step] = recorder.steps()
    assert answer.status == status and b"scripted" in answer.body
    assert (step.status, step.error, step.reply) == (status, f"HTTP {status}: scripted {status}", None)


def test_nobody_listening_is_told(transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with rollout() as recorder, pytest.raises(Exception):
        post(transport, f"http://127.0.0.1:{port}{PATH}", QUESTION)
    [step] = recorder.steps()
    assert step.status is None and step.error and "onnect" in step.error
    assert step.call is not None and step.latency_seconds is not None


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_off_is_told(transport: str, stream: bool) -> None:
    with FakeOpenAI() as server, rollout() as recorder, pytest.raises(Exception):
        server.drop(midway=True)
        post(transport, server.url + PATH, QUESTION, stream=stream)
    [step] = recorder.steps()
    assert step.error and step.reply is None and step.latency_seconds is not None


def test_a_stream_that_breaks_off_keeps_what_it_said(transport: str) -> None:
    with FakeOpenAI(Breaking()) as server, rollout() as recorder, pytest.raises(Exception):
        post(transport, server.url + PATH, STREAMED, stream=True)
    [step] = recorder.steps()
    assert step.error and step.is_partial
    if transport == "requests":  # reads a body of known length in one go, and has nothing to show for it
        assert step.reply is None
    else:
        assert step.reply is not None and step.reply.text == "one two th"


def test_garbage_is_told_and_passed_on(transport: str) -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        server.garbage("<html>no</html>")
        answer = post(transport, server.url + PATH, QUESTION)
    [step] = recorder.steps()
    assert answer.body == b"<html>no</html>"
    assert step.status == 200 and step.error and "cannot be read as chat" in step.error


def test_a_stream_left_early_is_partial(transport: str) -> None:
    with FakeOpenAI("one two three", chunk_delay_seconds=0.02) as server, rollout() as recorder:
        post(transport, server.url + PATH, STREAMED, stream=True, max_pieces=2)
    [step] = recorder.steps()
    assert step.is_partial and step.error is None and step.latency_seconds is not None
    assert step.reply is not None and "one two three".startswith(step.reply.text)


def test_a_call_that_hangs_is_a_partial_step_already(transport: str) -> None:
    seen: list[Any] = []
    with FakeOpenAI() as server, rollout() as recorder:
        server.hang(30)
        caller = threading.Thread(target=lambda: _quietly(transport, server.url + PATH, seen))
        caller.start()
        while not server.requests:
            caller.join(0.001)
        [step] = recorder.steps()
        assert step.is_partial and step.error and "still open" in step.error and step.call is not None
    caller.join()


def _quietly(transport: str, url: str, seen: list[Any]) -> None:
    try:
        seen.append(post(transport, url, QUESTION))
    except Exception as error:
        seen.append(error)


def test_other_paths_and_verbs_are_none_of_our_business(transport: str) -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        embedded = post(transport, f"{server.base_url}/embeddings", {"model": "e", "input": "x"})
        listed = post(transport, f"{server.base_url}/models", method="GET", headers={})
        got = post(transport, server.url + PATH, method="GET", headers={})
    assert (embedded.status, listed.status, got.status) == (200, 200, 200)
    assert recorder.steps() == []


@pytest.mark.parametrize("content", [b"", b"not json", b"[1, 2]", b'"stream"', b"\xff\xfe", b'{"stream": true}'])
def test_a_body_that_is_no_chat_request_is_sent_as_it_is(transport: str, content: bytes) -> None:
    policy = Policy(models={"helper": "other"})
    with FakeOpenAI(lambda _: "ok") as server, rollout(policy=policy) as recorder:
        server.next_status(400, times=1)
        answer = post(transport, server.url + PATH, content=content)
    assert answer.status == 400 and server.requests[0].body == content
    for step in recorder.steps():
        assert step.call is None and step.error == "HTTP 400: scripted 400"


def test_a_policy_steers_without_a_recorder_too(transport: str) -> None:
    scope = Scope("helper", policy=Policy(models={"helper": "better"}))
    with FakeOpenAI(lambda body: body["model"]) as server, entered(scope):
        plain = post(transport, server.url + PATH, QUESTION)
        streamed = post(transport, server.url + PATH, STREAMED, stream=True)
        other = post(transport, server.url + PATH, QUESTION | {"model": "better"})
    assert json.loads(plain.body)["choices"][0]["message"]["content"] == "better"
    assert b'"include_usage"' not in server.requests[1].body and streamed.body.endswith(b"data: [DONE]\n\n")
    assert other.status == 200
    assert [seen.json["model"] for seen in server.requests] == ["better"] * 3


def test_a_call_after_the_rollout_is_stopped_and_never_sent(transport: str) -> None:
    scope = Scope("helper", recorder=Recorder())
    scope.close()
    with FakeOpenAI() as server, entered(scope):
        for body in (QUESTION, STREAMED):
            with pytest.raises(RolloutStopped):
                post(transport, server.url + PATH, body)
    assert server.requests == [] and scope.num_late_calls == 2
    assert scope.recorder is not None and scope.recorder.steps() == []


def test_a_spent_budget_stops_the_call(transport: str) -> None:
    def admit() -> None:
        raise RolloutStopped("budget")

    with FakeOpenAI() as server, rollout(admit=admit) as recorder, pytest.raises(RolloutStopped, match="budget"):
        post(transport, server.url + PATH, QUESTION)
    assert server.requests == [] and recorder.steps() == []


def test_no_key_is_ever_in_a_step(transport: str) -> None:
    """In a header, the query, the address; also when the server says it back, and when the library's error does."""

    def parrot(body: dict[str, Any]) -> str:
        return f"your key is {KEY}"

    query, user = "sk-query-99a8b7c6d5", "user-token-112233"
    address = f"/v1/chat/completions?api-version=2024-10-21&api_key={query}"
    with FakeOpenAI(parrot) as server, rollout() as recorder:
        where = server.url.replace("http://", f"http://{user}:pa55word-{user}@")
        for body in (QUESTION, STREAMED):
            post(transport, where + address, body, stream=True, headers={"x-api-key": KEY})
        server.next_status(401, body={"error": {"message": f"wrong key {KEY} {query}"}})
        post(transport, server.url + address, QUESTION)
        _quietly(transport, f"http://127.0.0.1:9{address}", [])
        server.drop()
        _quietly(transport, where + address, [])
    encoded = msgspec.json.encode(recorder.steps()).decode()
    assert len(recorder.steps()) == 5
    for secret in (KEY, query, user):
        assert secret not in encoded
    assert "your key is [secret]" in encoded
    assert "wrong key [secret] [secret]" in encoded


def test_repeats_of_one_call_are_told_apart(transport: str) -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        for attempt in ("0", "1"):
            post(transport, server.url + PATH, QUESTION, headers=HEADERS | {"x-stainless-retry-count": attempt})
    assert [(step.index, step.retry) for step in recorder.steps()] == [(0, 0), (1, 1)]


def test_the_caller_sees_the_same_answer_in_and_outside_a_rollout(transport: str) -> None:
    def ask(server: FakeOpenAI, body: dict[str, Any]) -> Answer:
        return post(transport, server.url + PATH, body, stream=True)

    with FakeOpenAI("one two three") as server:
        for body in (QUESTION, STREAMED):
            before = ask(server, body)
            with rollout():
                within = ask(server, body)
            strip = lambda answer: answer.body.replace(b',"usage":null', b"").replace(b', "usage": null', b"")  # noqa: E731
            assert _timeless(strip(within)) == _timeless(strip(before))
            assert within.status == before.status and within.headers.keys() == before.headers.keys()


def _timeless(body: bytes) -> bytes:
    return re.sub(rb'"created": ?\d+', b"", body)
