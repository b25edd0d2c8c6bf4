"""The client gets an answer where one can be had, and otherwise says what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from tests.servers import FakeOpenAI

from agentlightning.data.call import Message, Reply
from agentlightning.errors import ModelError, RolloutStopped
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.transports import install
from agentlightning.models.client import ModelClient
from agentlightning.models.endpoint import Endpoint
from agentlightning.models.refusal import retry_after

KEY = "sk-very-secret-0123456789"
ASK: list[Message] = [{"role": "user", "content": "two words"}]


def client_of(server: FakeOpenAI | str, **options: Any) -> ModelClient:
    base_url = server if isinstance(server, str) else server.base_url
    endpoint = Endpoint.from_spec({"model": "m", "base_url": base_url, "api_key": KEY})
    return ModelClient(endpoint, **{"backoff_seconds": 0.001} | options)


def ask(server: FakeOpenAI | str, *, client: ModelClient | None = None, **options: Any) -> Reply:
    return asyncio.run((client or client_of(server)).complete(ASK, **options))


def refused(server: FakeOpenAI, param: str | None, message: str, status: int = 400) -> None:
    server.next_status(status, body={"error": {"message": message, "param": param, "code": "unsupported"}})


def test_an_answer_comes_with_its_usage_and_finish_reason() -> None:
    with FakeOpenAI("blue green") as server:
        reply = ask(server, temperature=0.5, max_tokens=7, seed=3)
        assert (reply.text, reply.finish_reason, reply.model) == ("blue green", "stop", "m")
        assert reply.usage is not None and (reply.usage.input_tokens, reply.usage.output_tokens) == (2, 2)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        assert server.requests[0].json == {
            "model": "m",
            "messages": ASK,
            "temperature": 0.5,
            "max_tokens": 7,
            "seed": 3,
        }


def test_what_nobody_set_is_not_sent_and_the_endpoint_sets_defaults() -> None:
    with FakeOpenAI() as server:
        ask(server)
        endpoint = Endpoint(model="m", base_url=server.base_url, temperature=0.0, max_tokens=5, query="api-version=1")
        ask(server, client=ModelClient(endpoint), max_tokens=6)
        assert server.requests[0].json == {"model": "m", "messages": ASK}
        assert server.requests[1].json == {"model": "m", "messages": ASK, "temperature": 0.0, "max_tokens": 6}
        assert server.requests[1].query == "api-version=1"


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    with FakeOpenAI("at last") as server:
        server.next_status(status, times=2)
        assert ask(server).text == "at last"
        assert len(server.requests) == 3


@pytest.mark.parametrize("midway", [True, False])
def test_a_lost_connection_is_tried_again(midway: bool) -> None:
    with FakeOpenAI("at last") as server:
        server.drop(midway=midway)
        assert ask(server).text == "at last"


def test_a_silent_server_is_tried_again() -> None:
    with FakeOpenAI("at last") as server:
        server.hang(10)
        assert ask(server, client=client_of(server, timeout_seconds=0.1)).text == "at last"


def test_a_server_that_stays_silent_is_an_error_with_the_time_it_was_given() -> None:
    with FakeOpenAI() as server, pytest.raises(ModelError, match=r"did not answer within 0\.05 seconds.*2 attempts"):
        server.hang(10, times=2)
        ask(server, client=client_of(server, timeout_seconds=0.05, max_retries=1))


def test_the_server_says_how_long_to_wait() -> None:
    now = datetime.now(UTC)
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": format_datetime(now + timedelta(seconds=30), usegmt=True)}) == pytest.approx(
        30, abs=2
    )
    assert retry_after({"retry-after": format_datetime(now - timedelta(days=1), usegmt=True)}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


def test_the_wait_the_server_asks_for_replaces_ours() -> None:
    with FakeOpenAI("at last") as server:
        server.next_status(429, headers={"Retry-After": "0"}, times=3)
        assert ask(server, client=client_of(server, backoff_seconds=1000)).text == "at last"


def test_the_wait_is_bounded_and_grows() -> None:
    client = client_of("http://127.0.0.1:9", backoff_seconds=0.5)
    assert client._pause(1, 86_400) == 60
    assert all(0.25 <= client._pause(1, None) <= 0.75 for _ in range(50))
    assert all(1 <= client._pause(3, None) <= 3 for _ in range(50))
    assert client._pause(40, None) <= 45


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, "refused the key: set OPENAI_API_KEY"),
        (403, {"error": "no access"}, "no access"),
        (404, {"error": {"message": "The model `m` does not exist"}}, "does not exist[^$]*model's name"),
        (400, {"detail": "messages: field required"}, "messages: field required"),
        (429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}, "no credit left"),
        (307, "", "set base_url to where it points"),
    ],
)
def test_what_will_not_pass_is_not_tried_again_and_names_the_remedy(status: int, body: Any, said: str) -> None:
    with FakeOpenAI() as server:
        server.next_status(status, body=body)
        with pytest.raises(ModelError, match=said) as caught:
            ask(server)
        assert f"{server.base_url} answered {status} for model 'm'" in str(caught.value)
        assert len(server.requests) == 1


def test_retries_end_with_the_providers_own_words() -> None:
    with FakeOpenAI() as server:
        server.next_status(503, body="overloaded, come back", times=3)
        with pytest.raises(ModelError, match="overloaded, come back"):
            ask(server, client=client_of(server, max_retries=2))
        assert len(server.requests) == 3


def test_nobody_at_the_address_says_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ModelError, match=rf"nothing listens at http://127\.0\.0\.1:{port}/v1 .*[^$]*base_url"):
        ask("", client=client_of(f"http://127.0.0.1:{port}/v1", max_retries=1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html>hello</html>", "no answer as /chat/completions gives them: <html>hello</html>"),
        ('{"choices": []}', r'them: {"choices": \[\]}'),
        ("[1, 2]", r"them: \[1, 2\]"),
        ('{"error": {"message": "upstream is down"}}', "them: upstream is down"),
    ],
)
def test_an_answer_that_is_none_asks_whether_the_dialect_is_spoken_there(text: str, said: str) -> None:
    with FakeOpenAI() as server, pytest.raises(ModelError, match=said) as caught:
        server.garbage(text)
        ask(server)
    assert "Is the dialect 'chat' spoken there?" in str(caught.value)


def test_a_refused_parameter_is_left_out_and_stays_out() -> None:
    with FakeOpenAI() as server:
        client = client_of(server)
        refused(server, "temperature", "Unsupported value: 'temperature' does not support 0.5 with this model.")
        refused(server, None, "seed: Extra inputs are not permitted", status=422)
        for _ in range(2):
            ask(server, client=client, temperature=0.5, seed=1)
        assert [sorted(seen.json) for seen in server.requests] == [
            ["messages", "model", "seed", "temperature"],
            ["messages", "model", "seed"],
            ["messages", "model"],
            ["messages", "model"],
        ]


def test_max_tokens_goes_by_its_newer_name_where_asked() -> None:
    with FakeOpenAI() as server:
        client = client_of(server)
        refused(server, "max_tokens", "Unsupported parameter: use 'max_completion_tokens' instead.")
        for number in (8, 9):
            ask(server, client=client, max_tokens=number)
        assert [seen.json.get("max_completion_tokens") for seen in server.requests] == [None, 8, 9]
        assert "max_tokens" not in server.requests[-1].json


def test_a_prompt_that_is_too_long_is_not_taken_for_a_refused_parameter() -> None:
    with FakeOpenAI() as server, pytest.raises(ModelError, match="maximum context length"):
        refused(server, "max_tokens", "max_tokens is too large: this model's maximum context length is 10.")
        ask(server, max_tokens=8)


def test_a_refusal_that_leaving_out_does_not_cure_is_not_remembered() -> None:
    with FakeOpenAI() as server:
        client = client_of(server)
        refused(server, "seed", "seed is not supported")
        refused(server, None, "something else")
        with pytest.raises(ModelError, match="something else"):
            ask(server, client=client, seed=1)
        ask(server, client=client, seed=1)
        assert "seed" in server.requests[-1].json


def test_no_more_requests_are_in_flight_than_allowed() -> None:
    async def ask_many(client: ModelClient) -> None:
        await asyncio.gather(*[client.complete(ASK) for _ in range(9)])

    with FakeOpenAI() as server:
        server.hang(0.03, times=9)
        asyncio.run(ask_many(client_of(server, max_in_flight=3)))
        assert server.max_in_flight == 3


def test_every_attempt_is_announced_before_it_is_sent_and_can_be_vetoed() -> None:
    attempts: list[int] = []

    def count(attempt: int) -> None:
        attempts.append(attempt)
        if attempt == 3:
            raise RuntimeError("enough")

    with FakeOpenAI() as server:
        server.next_status(500, times=5)
        with pytest.raises(RuntimeError, match="enough"):
            ask(server, client=client_of(server, on_attempt=count))
        assert attempts == [1, 2, 3]
        assert len(server.requests) == 2


def test_one_client_serves_loop_after_loop_and_leaves_no_socket_open() -> None:
    with FakeOpenAI() as server:
        client = client_of(server)
        for _ in range(3):
            assert ask(server, client=client).text == "ok"  # pytest would fail on a socket left behind
        assert not client._lanes


def test_one_client_serves_several_loops_at_once_and_closes_them_all() -> None:
    async def ask_and_close(client: ModelClient, loop: asyncio.AbstractEventLoop) -> None:
        there = asyncio.run_coroutine_threadsafe(client.complete(ASK), loop)
        await client.complete(ASK)
        await asyncio.wrap_future(there)
        assert len(client._lanes) == 2
        await client.aclose()
        assert not client._lanes
        assert (await client.complete(ASK)).text == "ok"

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with FakeOpenAI() as server:
            asyncio.run(ask_and_close(client_of(server), loop))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_connections_are_used_again() -> None:
    async def ask_twice(client: ModelClient) -> None:
        for _ in range(2):
            await client.complete(ASK)

    with FakeOpenAI() as server:
        asyncio.run(ask_twice(client_of(server)))
        assert server.requests[0].headers["connection"] == "keep-alive"
        assert server.num_connections == 1


def test_the_key_appears_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with FakeOpenAI() as server:
        client = client_of(server, max_retries=1)
        said: list[str] = []
        for body in (f"bad key {KEY}", {"error": {"message": f"key {KEY[:9]}****6789 is wrong ({KEY})"}}):
            server.next_status(401, body=body)
            with pytest.raises(ModelError) as caught:
                ask(server, client=client)
            said.append(str(caught.value))
        server.garbage(f"you sent Bearer {KEY}")
        with pytest.raises(ModelError) as caught:
            ask(server, client=client)
        said += [str(caught.value), repr(client), repr(client.endpoint), caplog.text]
    assert caplog.records
    for text in said:
        assert "very-secret" not in text and "sk-" not in text and KEY[:9] not in text


def test_our_own_calls_are_not_taken_for_the_agents() -> None:
    async def call_both(client: ModelClient, url: str) -> None:
        assert (await client.complete(ASK)).text == "ok"
        async with httpx.AsyncClient() as agents:
            with pytest.raises(RolloutStopped):
                await agents.post(url, json={"model": "m", "messages": ASK})

    install()
    scope = Scope("an agent")
    scope.close()  # from here on, every call seen as the agent's is refused
    with FakeOpenAI() as server, entered(scope):
        client = client_of(server)
        asyncio.run(call_both(client, client.endpoint.url))
        assert scope.num_late_calls == 1
        assert len(server.requests) == 1
