"""Our own calls can go where the agent's went."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests
from tests.interception.rollout import KEY, QUESTION, TRANSPORTS, post, rollout
from tests.servers import FakeOpenAI

from agentlightning.data.resource import Policy
from agentlightning.interception.endpoint import SeenEndpoint, seen_endpoint


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_model_key_and_address_of_an_answered_call_are_seen(transport: str) -> None:
    policy = Policy(models={"helper": "steered"})
    with FakeOpenAI() as server, rollout(policy=policy) as recorder:
        post(transport, server.base_url + "/chat/completions?api-version=1", QUESTION)
        [exchange] = recorder.exchanges()
    seen = seen_endpoint(exchange)
    assert seen == SeenEndpoint("m-1", server.base_url, "api-version=1", {"authorization": f"Bearer {KEY}"}, "chat")
    assert KEY not in repr(seen)


def test_an_address_with_a_password_is_seen_as_what_it_sends() -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        requests.post(server.base_url.replace("//", "//me:p%40ss@") + "/chat/completions", json=QUESTION, timeout=5)
        [exchange] = recorder.exchanges()
    seen = seen_endpoint(exchange)
    assert seen is not None and seen.base_url == server.base_url
    assert seen.headers == {"authorization": "Basic " + base64.b64encode(b"me:p@ss").decode()}
    assert server.requests[0].headers["authorization"] == seen.headers["authorization"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_a_gateway_or_a_version_wants_of_every_request_is_seen_too(transport: str) -> None:
    wanted = {"anthropic-version": "2023-06-01", "x-gateway-key": "abc", "openai-organization": "mine"}
    passing = {"idempotency-key": "1", "x-stainless-retry-count": "0", "user-agent": "me"}
    with FakeOpenAI() as server, rollout() as recorder:
        server.route("/v1/messages", {"content": []})
        question = QUESTION | {"max_tokens": 5}
        post(transport, server.url + "/v1/messages", question, headers=wanted | passing)
        [exchange] = recorder.exchanges()
    seen = seen_endpoint(exchange)
    assert seen is not None and (seen.dialect, seen.base_url) == ("messages", server.url)
    assert seen.headers == wanted


@pytest.mark.parametrize(("status", "body"), [(401, QUESTION), (200, {"messages": []}), (200, [1])])
def test_a_refused_or_nameless_call_shows_no_endpoint(status: int, body: Any) -> None:
    with FakeOpenAI() as server, rollout() as recorder:
        server.next_status(status)
        post("httpx", server.base_url + "/chat/completions", body)
        [exchange] = recorder.exchanges()
    assert seen_endpoint(exchange) is None
