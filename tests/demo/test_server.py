"""The endpoint speaks the OpenAI API: to the vendor's SDK, to plain HTTP, and when something is wrong."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from agentlightning.demo import agent
from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.tasks import make_tasks
from agentlightning.errors import ConfigError, ModelError

SYSTEM = agent.SYSTEM.format(shop="Nordlicht", date="2025-03-04")
LOOK_UP = SYSTEM + " Use lookup_order first when there is an order number."


def asked(system: str, ticket: str) -> list[Any]:
    return [{"role": "system", "content": system}, {"role": "user", "content": ticket}]


@pytest.fixture
def sdk(server: SimulatedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def http(server: SimulatedServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base_url) as client:
        yield client


def test_streaming_gives_the_same_text_as_not_streaming_and_its_usage(sdk: openai.OpenAI) -> None:
    for task in make_tasks()["test"][:8]:
        messages = asked(SYSTEM, str(task.input))
        whole = sdk.chat.completions.create(model="m", messages=messages)
        options: Any = {"include_usage": True}
        chunks = list(sdk.chat.completions.create(model="m", messages=messages, stream=True, stream_options=options))
        assert (
            "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
        )
        assert chunks[-1].usage == whole.usage and not chunks[-1].choices
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert {c.id for c in chunks} == {whole.id}


def test_a_tool_call_is_streamed_in_pieces_that_add_up(sdk: openai.OpenAI) -> None:
    messages = asked(LOOK_UP, "Where is N-1234?")
    whole = sdk.chat.completions.create(model="m", messages=messages, tools=agent.TOOLS).choices[0]
    deltas = [
        piece
        for chunk in sdk.chat.completions.create(model="m", messages=messages, tools=agent.TOOLS, stream=True)
        for piece in chunk.choices[0].delta.tool_calls or []
    ]
    assert whole.finish_reason == "tool_calls" and whole.message.tool_calls
    call: Any = whole.message.tool_calls[0]
    assert (deltas[0].id, deltas[0].function and deltas[0].function.name) == (call.id, "lookup_order")
    assert len(deltas) > 2
    assert "".join(piece.function.arguments or "" for piece in deltas if piece.function) == call.function.arguments
    assert call.function.arguments == '{"order_id": "N-1234"}'


def test_a_stream_without_include_usage_carries_none(http: httpx.Client) -> None:
    body = {"model": "m", "messages": asked(SYSTEM, "hi"), "stream": True}
    answered = http.post("/chat/completions", json=body)
    assert answered.headers["content-type"].startswith("text/event-stream")
    assert "usage" not in answered.text and answered.text.endswith("data: [DONE]\n\n")


def test_the_same_request_gets_the_same_answer_and_says_it_is_simulated(http: httpx.Client) -> None:
    body = {"model": "gpt-x", "messages": asked(SYSTEM, "My parcel is late."), "temperature": 1, "seed": 4}
    first, second = (http.post("/chat/completions", json=body).json() for _ in range(2))
    assert (first["choices"], first["id"], first["usage"]) == (second["choices"], second["id"], second["usage"])
    assert first["model"] == "gpt-x" and first["system_fingerprint"] == "simulated"
    assert first["usage"]["total_tokens"] == first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"] > 20
    assert http.get("/models").json()["data"][0]["owned_by"] == "agentlightning-simulation"


def test_max_tokens_cuts_and_response_format_is_let_through(sdk: openai.OpenAI) -> None:
    ask = asked("", "Tell me about fjords.")
    given = sdk.chat.completions.create(model="m", messages=ask, max_tokens=3, response_format={"type": "text"})
    assert given.choices[0].finish_reason == "length"
    assert given.usage is not None and given.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{nope", "not valid JSON"),
        (b"[1]", "JSON object"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": []}', "messages"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "messages[0]"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 2}', "'n' must be 1"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}', "temperature"),
    ],
)
def test_a_bad_body_is_refused_in_the_apis_own_shape(http: httpx.Client, content: bytes, told: str) -> None:
    refused = http.post("/chat/completions", content=content)
    assert refused.status_code == 400
    assert told in refused.json()["error"]["message"]
    assert refused.json()["error"]["type"] == "invalid_request_error"


def test_a_wrong_path_is_a_404_the_sdk_understands(server: SimulatedServer, http: httpx.Client) -> None:
    with (
        openai.OpenAI(base_url=f"{server.base_url}/nowhere", api_key="any", max_retries=0) as client,
        pytest.raises(openai.NotFoundError, match="not served here"),
    ):
        client.chat.completions.create(model="m", messages=asked("", "hi"))
    assert http.get("/chat/completions").status_code == 405


def test_it_starts_and_stops_cleanly_and_again(recwarn: pytest.WarningsRecorder) -> None:
    server = SimulatedServer()
    for _ in range(2):
        with server, httpx.Client(base_url=server.base_url) as client:
            assert client.get("/models").status_code == 200
            url = server.base_url
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/models")
    with pytest.raises(ModelError, match="not running"):
        _ = server.base_url
    gc.collect()
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []


def test_a_port_that_is_taken_is_told(server: SimulatedServer) -> None:
    port = int(server.base_url.split(":")[2].removesuffix("/v1"))
    with pytest.raises(ConfigError, match=f"port {port}"), SimulatedServer(port=port):
        pass


def test_latency_is_waited_for_without_holding_others_up() -> None:
    with SimulatedServer(latency_seconds=0.2) as slow, httpx.Client(base_url=slow.base_url) as client:
        body = {"model": "m", "messages": asked("", "hi")}
        begun = time.perf_counter()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: client.post("/chat/completions", json=body), range(8)))
        assert 0.2 <= time.perf_counter() - begun < 1.2


def test_answers_do_not_wait_for_delayed_acknowledgements(http: httpx.Client) -> None:
    """With Nagle's algorithm on, every answer takes 40 ms: 50 of them over two seconds."""
    begun = time.perf_counter()
    for _ in range(50):
        http.post("/chat/completions", json={"model": "m", "messages": asked("", "hi")})
    assert time.perf_counter() - begun < 1.5


def test_the_module_serves_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "agentlightning.demo.server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "Simulated model" in line
        assert httpx.get(f"{line.split()[-1]}/models").status_code == 200
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=10)
    assert (process.returncode, complaints) == (0, "")
