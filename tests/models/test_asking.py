"""A question of ours is asked in the dialect its endpoint speaks, in that dialect's own words."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.interception.dialects.serving import CUT, SAID, TEXT, THOUGHT, USAGE, answering
from tests.servers import FakeOpenAI

from agentlightning.data.call import Message, Reply
from agentlightning.errors import ModelError
from agentlightning.models.client import ModelClient
from agentlightning.models.endpoint import Endpoint

KEY = "sk-very-secret-0123456789"
ASK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "two words"},
    {"role": "assistant", "content": "blue"},
    {"role": "user", "content": "two!"},
]
TURNS = ASK[1:]
BESIDE_V1 = ("messages", "ollama")


def client_of(server: FakeOpenAI, dialect: str, **spec: Any) -> ModelClient:
    base_url = server.url if dialect in BESIDE_V1 else server.base_url
    endpoint = Endpoint.from_spec(
        {"model": "m", "dialect": dialect, "base_url": base_url, "api_key": KEY, **spec}, env={}
    )
    return ModelClient(endpoint, backoff_seconds=0.001)


def ask(client: ModelClient, **wishes: Any) -> Reply:
    return asyncio.run(client.complete(ASK, **wishes))


@pytest.mark.parametrize("dialect", ["chat", "responses", "messages", "ollama"])
def test_every_dialect_brings_the_answer_with_its_usage_and_its_end(dialect: str) -> None:
    for reply, finish in ((SAID, "stop"), (CUT, "length"), (THOUGHT, "stop")):
        with answering(reply) as server:
            answer = ask(client_of(server, dialect))
        assert (answer.text, answer.finish_reason, answer.model) == (reply.text, finish, "m")
        assert answer.usage is not None and answer.usage.output_tokens == USAGE.output_tokens
        assert answer.usage.input_tokens == USAGE.input_tokens


def asked(dialect: str, **wishes: Any) -> dict[str, Any]:
    with answering(SAID) as server:
        assert ask(client_of(server, dialect), **wishes).text == TEXT
    assert not server.requests[0].json.get("stream")
    return server.requests[0].json


WISHES = {"temperature": 1.5, "max_tokens": 7, "seed": 3}


def test_the_words_of_responses() -> None:
    sent = asked("responses", **WISHES)
    assert sent.pop("input")[0] == {"role": "user", "content": "two words"}
    assert sent == {
        "model": "m",
        "instructions": "Be brief.",
        "temperature": 1.5,
        "max_output_tokens": 7,
        "store": False,
    }


def test_the_words_of_messages() -> None:
    expected = {"model": "m", "system": "Be brief.", "messages": TURNS, "temperature": 1.0, "max_tokens": 7}
    assert asked("messages", **WISHES) == expected
    assert asked("messages")["max_tokens"] >= 4096  # it has no answer without a cap


def test_the_words_of_ollama() -> None:
    options = {"temperature": 1.5, "num_predict": 7, "seed": 3}
    assert asked("ollama", **WISHES) == {"model": "m", "messages": ASK, "stream": False, "options": options}


@pytest.mark.parametrize(
    ("dialect", "error"),
    [
        ("responses", {"error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature"}}),
        ("messages", {"type": "error", "error": {"type": "invalid_request_error", "message": "temperature: no"}}),
        ("ollama", {"error": "this model takes no temperature"}),
    ],
)
def test_a_refused_wish_is_left_out_and_stays_out(dialect: str, error: Any) -> None:
    with answering(SAID) as server:
        client = client_of(server, dialect)
        server.next_status(400, body=error)
        for _ in range(2):
            ask(client, temperature=0.5)
    assert ["temperature" in str(seen.json) for seen in server.requests] == [True, False, False]


def test_an_endpoint_that_keeps_no_answers_is_not_asked_to_forget_them() -> None:
    with answering(SAID) as server:
        server.next_status(400, body={"error": {"message": "Unknown parameter: 'store'.", "param": "store"}})
        assert ask(client_of(server, "responses")).text == TEXT
    assert ["store" in seen.json for seen in server.requests] == [True, False]


def test_a_claude_that_writes_less_says_how_much() -> None:
    said = "max_tokens: 8192 > 4096, which is the maximum allowed number of output tokens for claude-3-haiku-20240307"
    with answering(SAID) as server:
        client = client_of(server, "messages")
        server.next_status(400, body={"type": "error", "error": {"type": "invalid_request_error", "message": said}})
        for wished in (None, 100, 100_000):
            ask(client, max_tokens=wished)
    assert [seen.json["max_tokens"] for seen in server.requests] == [8192, 4096, 100, 4096]


def test_a_refusal_that_comes_again_ends_in_the_providers_words() -> None:
    with answering(SAID) as server, pytest.raises(ModelError, match="max_tokens: Field required"):
        error = {"type": "error", "error": {"message": "max_tokens: Field required"}}
        server.next_status(400, body=error, times=9)
        ask(client_of(server, "messages"))
    assert len(server.requests) <= 3


@pytest.mark.parametrize("dialect", ["responses", "messages", "ollama"])
def test_a_failure_told_with_status_200_is_one(dialect: str) -> None:
    with answering(SAID) as server, pytest.raises(ModelError, match="the model fell over"):
        server.next_status(200, body={"error": {"message": "the model fell over"}, "output": [], "content": []})
        ask(client_of(server, dialect))


def test_overload_at_anthropic_passes() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with answering(SAID) as server:
        server.next_status(529, body=error, times=2)
        assert ask(client_of(server, "messages")).text == TEXT


def test_a_missing_key_names_the_dialects_own_variable() -> None:
    with FakeOpenAI() as server, pytest.raises(ModelError, match="wants a key and got none: set ANTHROPIC_API_KEY"):
        server.next_status(401, body={"type": "error", "error": {"message": "x-api-key header is required"}})
        ask(client_of(server, "messages", api_key=None))
