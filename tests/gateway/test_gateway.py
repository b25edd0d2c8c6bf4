"""The gateway answers in every dialect, from an engine or a provider, steered, and only who has the token."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import msgspec
import openai
import pytest
from tests.contract.dialects.cases import CALLED, CASES, SAID
from tests.engines import MODEL, Answering, ByteEngine, tokens_of
from tests.interception.dialects.serving import SAID as SUNNY
from tests.interception.dialects.serving import TEXT, answering
from tests.interception.rollout import QUESTION, STREAMED
from tests.servers import FakeOpenAI

from agentlightning.data.call import Reply
from agentlightning.data.resource import Policy, PromptSite, Slot
from agentlightning.errors import ConfigError, ContextTooLong, ModelError, RolloutStopped
from agentlightning.gateway.providers import one_provider, provider_for, providers_of
from agentlightning.gateway.served import AGENT_HEADER, Served
from agentlightning.gateway.server import Gateway, is_loopback
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope

SITE = PromptSite(id="s1", agent="helper", kind="system", template="Be ⟦mood⟧.", slots=[Slot("mood")])
POLICY = Policy().with_prompt(SITE, "Always be ⟦mood⟧.")
PATHS = {**{name: case.path for name, case in CASES.items()}, "azure": "/openai/deployments/mine/chat/completions"}


def from_engine(engine: ByteEngine, **options: Any) -> Gateway:
    return Gateway(served=Served(responder=Answering(engine), **options))


def from_provider(server: FakeOpenAI, policy: Policy | None = None, **options: Any) -> Gateway:
    return Gateway(served=Served(policy, **options), providers=one_provider(server.base_url, "sk-real"))


def ask(
    gateway: Gateway, body: Any = QUESTION, path: str = "/v1/chat/completions", **headers: str | bytes
) -> httpx.Response:
    given = headers or {"authorization": f"Bearer {gateway.token}"}
    return httpx.post(gateway.url + path, json=body, headers=given, timeout=10)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("expected", [SAID, CALLED], ids=["text", "tool call"])
def test_an_engine_answers_in_every_dialect(name: str, is_streamed: bool, expected: Reply) -> None:
    case = CASES[name]
    if expected is CALLED and not case.has_tools:
        return
    with ByteEngine(expected) as engine, from_engine(engine) as gateway:
        answer = ask(gateway, case.body(stream=is_streamed), case.path)
    assert answer.status_code == 200, answer.text
    if is_streamed:
        assert case.dialect.stream_type in answer.headers["content-type"]
        given = case.dialect.assemble(case.dialect.events(answer.content))
    else:
        given = case.dialect.reply(answer.json())
    assert (given.message, given.finish_reason) == (expected.message, expected.finish_reason)
    assert engine.calls[0].messages == case.heard


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("name", PATHS)
def test_a_provider_answers_in_every_dialect(name: str, is_streamed: bool) -> None:
    case = CASES.get(name, CASES["chat"])
    with answering(SAID) as server, from_provider(server) as gateway:
        answer = ask(gateway, case.body(stream=is_streamed), PATHS[name])
    if is_streamed:
        given = case.dialect.assemble(case.dialect.events(answer.content))
    else:
        given = case.dialect.reply(answer.json())
    assert given.message == SAID.message
    [seen] = server.requests
    assert seen.json == case.body(stream=is_streamed) and seen.headers["authorization"] == "Bearer sk-real"
    assert gateway.token not in str(seen)


@contextmanager
def sdks(gateway: Gateway) -> Iterator[tuple[openai.OpenAI, openai.AzureOpenAI, anthropic.Anthropic]]:
    with (
        openai.OpenAI(base_url=gateway.base_url, api_key=gateway.token) as plain,
        openai.AzureOpenAI(azure_endpoint=gateway.url, api_key=gateway.token, api_version="2024-10-21") as azure,
        anthropic.Anthropic(base_url=gateway.url, api_key=gateway.token) as claude,
    ):
        yield plain, azure, claude


def test_sdks_need_only_the_address_and_the_token() -> None:
    user: Any = [{"role": "user", "content": "Weather?"}]
    with (
        ByteEngine(SUNNY) as engine,
        from_engine(engine, model="tiny") as gateway,
        sdks(gateway) as (sdk, azure, claude),
    ):
        assert sdk.chat.completions.create(model="m", messages=user).choices[0].message.content == TEXT
        assert sdk.responses.create(model="m", input="Weather?").output_text == TEXT
        assert azure.chat.completions.create(model="mine", messages=user).choices[0].message.content == TEXT
        assert claude.messages.create(model="m", messages=user, max_tokens=9).content[0].text == TEXT  # type: ignore[union-attr]
        with claude.messages.stream(model="m", messages=user, max_tokens=9) as stream:
            assert "".join(stream.text_stream) == TEXT
        chunks = sdk.chat.completions.create(model="m", messages=user, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        assert [model.id for model in sdk.models.list()] == ["tiny"]
    assert engine.calls[2].model == "mine"


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_served_is_steered(stream: bool) -> None:
    with FakeOpenAI("I") as server, from_provider(server, POLICY) as gateway:
        answer = ask(gateway, QUESTION | {"stream": stream})
    assert server.requests[0].json["messages"][0]["content"] == "Always be kind."
    assert '"content":"I"' in answer.text.replace(" ", "")


def test_an_engine_is_asked_with_the_policys_weights() -> None:
    with ByteEngine() as engine, from_engine(engine, policy=POLICY.with_weights("helper", "w-1")) as gateway:
        ask(gateway)
    assert engine.asked == [("w-1", "")] and engine.calls[0].messages[0]["content"] == "Always be kind."


def test_several_agents_are_told_apart_by_model_or_header() -> None:
    policy = POLICY.with_weights("helper", "w-1").with_weights("writer", "w-2")
    with ByteEngine() as engine, from_engine(engine, policy=policy) as gateway:
        for agent in ("helper", "writer"):
            assert ask(gateway, QUESTION | {"model": agent}).status_code == 200
        named = {"authorization": f"Bearer {gateway.token}", AGENT_HEADER: "writer"}
        assert ask(gateway, **named).status_code == 200
        unclear, unknown = ask(gateway), ask(gateway, **named | {AGENT_HEADER: "wirter"})
        listed = httpx.get(gateway.base_url + "/models", headers=named).json()
    assert [weights for weights, _ in engine.asked] == ["w-1", "w-2", "w-2"]
    assert [call.agent for call in engine.calls] == ["helper", "writer", "writer"]
    assert unclear.status_code == 400 and "Say which one calls" in unclear.json()["error"]["message"]
    assert unknown.status_code == 400 and "no agent 'wirter'" in unknown.json()["error"]["message"]
    assert [card["id"] for card in listed["data"]] == ["helper", "writer"]


def test_an_agent_asked_for_by_name_is_the_providers_model_there() -> None:
    with FakeOpenAI() as server, from_provider(server, POLICY, model="gpt-4o-mini") as gateway:
        ask(gateway, QUESTION | {"model": "helper"})
        ask(gateway, QUESTION | {"model": "gpt-4o"})
    assert [seen.json["model"] for seen in server.requests] == ["gpt-4o-mini", "gpt-4o"]


@pytest.mark.parametrize("path", [*PATHS.values(), "/v1/models", "/v1/files", "/elsewhere"])
def test_nobody_comes_in_without_the_token(path: str) -> None:
    with FakeOpenAI() as server, from_provider(server) as gateway:
        for headers in (
            {"x-other": "1"},
            {"authorization": "Bearer wrong"},
            {"x-api-key": "ü".encode()},
        ):
            assert ask(gateway, QUESTION, path, **headers).status_code == 401
        for name in ("x-api-key", "api-key"):
            assert ask(gateway, QUESTION, path, **{name: gateway.token}).status_code != 401
    assert all("authorization" in seen.headers for seen in server.requests)


def test_an_address_others_can_reach_wants_a_token_one_chose() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "my-host"):
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="needs a token"):
            Gateway(host=host)
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    engine = ByteEngine()
    with engine, Gateway(served=Served(responder=Answering(engine)), host="0.0.0.0", token="chosen") as gateway:
        port = gateway.url.rpartition(":")[2]
        headers = {"x-api-key": "chosen"}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=QUESTION, headers=headers)
    assert answer.status_code == 200


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with Gateway() as gateway:
        port = int(gateway.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match=f"port {port} cannot be used"):
            Gateway(port=port).start()


def test_it_stops_cleanly_and_can_be_started_again() -> None:
    before = set(threading.enumerate())
    with ByteEngine() as engine:
        gateway = from_engine(engine)
        for _ in range(2):
            with gateway:
                assert ask(gateway).status_code == 200
                url = gateway.url
            with pytest.raises(httpx.ConnectError):
                httpx.get(url)
            with pytest.raises(ModelError, match="not running"):
                _ = gateway.url
        gateway.stop()
    assert {thread for thread in threading.enumerate() if "gateway" in thread.name} <= before


@pytest.mark.parametrize("name", CASES)
def test_errors_are_told_in_the_callers_dialect(name: str) -> None:
    case = CASES[name]
    with ByteEngine() as engine, from_engine(engine) as gateway:
        for error, status in ((ContextTooLong("too long"), 400), (ModelError("out of memory"), 500)):
            engine.fail(error)
            answer = ask(gateway, case.body(), case.path)
            assert answer.status_code == status and case.dialect.failure(answer.json()) == str(error)
        engine.fail(RolloutStopped("closing"))
        answer = ask(gateway, case.body(), case.path)
        assert answer.status_code == 403 and case.dialect.failure(answer.json()) == "closing"
        refused = httpx.post(gateway.url + case.path, json=case.body())
    assert refused.status_code == 401 and "token" in (case.dialect.failure(refused.json()) or "")


def test_a_providers_refusal_is_handed_on() -> None:
    with FakeOpenAI() as server, from_provider(server) as gateway:
        server.next_status(429, headers={"retry-after": "7"})
        answer = ask(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json()["error"]["message"] == "scripted 429"


def test_a_provider_that_is_down_is_a_bad_gateway_worth_a_retry() -> None:
    with Gateway(served=Served(), providers=one_provider("http://127.0.0.1:9/v1")) as gateway:
        answer = ask(gateway)
    assert answer.status_code == 502 and "127.0.0.1:9" in answer.text and "x-should-retry" not in answer.headers


def test_what_no_engine_answers_and_no_provider_is_there_for_is_said() -> None:
    with ByteEngine() as engine, from_engine(engine) as gateway:
        answer = ask(gateway, {"input": "x"}, "/v1/embeddings")
        garbled = ask(gateway, [1])
    assert answer.status_code == 404 and "/v1/embeddings is not answered here" in answer.json()["error"]["message"]
    assert garbled.status_code == 404


def test_other_paths_reach_the_provider_as_they_are() -> None:
    with FakeOpenAI() as server, from_provider(server) as gateway:
        answer = ask(gateway, {"model": "e", "input": ["abc"]}, "/v1/embeddings?x=1")
        models = httpx.get(gateway.base_url + "/models", headers={"x-api-key": gateway.token})
    assert answer.json()["data"][0]["embedding"] == [3.0] and server.requests[0].query == "x=1"
    assert models.json()["data"][0]["id"] == "fake"


def test_a_caller_that_hangs_up_ends_the_work() -> None:
    async def main(gateway: Gateway, engine: ByteEngine) -> None:
        async with httpx.AsyncClient() as client:
            headers = {"x-api-key": gateway.token}
            waiting = asyncio.create_task(
                client.post(gateway.url + "/v1/chat/completions", json=QUESTION, headers=headers)
            )
            while len(engine.futures) < 2:
                await asyncio.sleep(0.001)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        while not engine.futures[1].cancelled():
            await asyncio.sleep(0.001)

    with ByteEngine() as engine, from_engine(engine) as gateway:
        engine.hold()
        engine.sample(CASES["chat"].call())
        asyncio.run(asyncio.wait_for(main(gateway, engine), 10))


def test_many_callers_at_once_get_their_own_answers() -> None:
    async def main(gateway: Gateway) -> list[str]:
        async with httpx.AsyncClient(headers={"x-api-key": gateway.token}) as client:
            bodies = [{"model": "m", "messages": [{"role": "user", "content": f"n{n}"}]} for n in range(32)]
            answers = await asyncio.gather(
                *(client.post(gateway.url + "/v1/chat/completions", json=body) for body in bodies)
            )
        return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

    with ByteEngine(lambda call: call.messages[0]["content"] * 2) as engine, from_engine(engine) as gateway:
        assert asyncio.run(main(gateway)) == [f"n{n}n{n}" for n in range(32)]


def test_a_rollouts_address_records_into_its_scope_and_no_other() -> None:
    scopes = [Scope("helper", policy=POLICY, recorder=Recorder(), attempt=2, mode="val") for _ in range(2)]
    with FakeOpenAI("fine") as server, Gateway() as gateway:
        passages = [gateway.open(scope, one_provider(server.base_url, "sk-real")) for scope in scopes]
        ours, theirs = (passage.environment({}) for passage in passages)
        with openai.OpenAI(base_url=ours["OPENAI_BASE_URL"], api_key=ours["OPENAI_API_KEY"]) as sdk:
            sdk.chat.completions.create(**QUESTION)
            list(sdk.chat.completions.create(**STREAMED))
        sdk = openai.OpenAI(base_url=ours["OPENAI_BASE_URL"], api_key=theirs["OPENAI_API_KEY"])
        with sdk, pytest.raises(openai.AuthenticationError):
            sdk.chat.completions.create(**QUESTION)
        for passage in passages:
            passage.close()
        gone = httpx.post(ours["OPENAI_BASE_URL"] + "/chat/completions", json=QUESTION)
    rollout = scopes[0].recorder.rollout_id  # type: ignore[union-attr]
    assert f"/proxy/rollout/{rollout}/attempt/2/mode/val/openai/v1" in ours["OPENAI_BASE_URL"]
    steps = [scope.recorder.steps() for scope in scopes]  # type: ignore[union-attr]
    assert [len(found) for found in steps] == [2, 0]
    assert [step.steered_sites for step in steps[0]] == [["s1"], ["s1"]]
    assert all(step.reply is not None and step.reply.text == "fine" and step.reply.usage for step in steps[0])
    assert {seen.headers["authorization"] for seen in server.requests} == {"Bearer sk-real"}
    assert gone.status_code == 404 and "has ended" in gone.text
    assert steps[0][0].endpoint == server.base_url + "/chat/completions"


def test_a_rollouts_calls_are_answered_by_its_responder() -> None:
    with ByteEngine(SAID) as engine, Gateway() as gateway:
        scope = Scope("helper", recorder=Recorder("r-1"), responder=Answering(engine, "writer"))
        passage = gateway.open(scope, {})
        headers = {"x-api-key": passage.token, AGENT_HEADER: "writer"}
        answer = httpx.post(passage.url("openai/v1/chat/completions"), json=QUESTION, headers=headers)
        nobody = httpx.post(
            passage.url("openai/v1/chat/completions"), json=QUESTION, headers={"api-key": passage.token}
        )
        keyless = httpx.post(passage.url(f"key/{passage.token}/ollama/api/chat"), json=QUESTION)
        assert keyless.status_code == 404  # nobody answers for the agent as a whole
    assert answer.status_code == 200 and nobody.status_code == 404
    assert scope.recorder is not None
    steps = scope.recorder.steps()
    assert (steps[0].agent, steps[0].completion_ids) == ("writer", tokens_of(SAID))
    assert steps[0].endpoint == f"engine:{MODEL}" and engine.asked == [("", "r-1")]


def test_a_spent_budget_stops_the_rollout_and_is_remembered() -> None:
    def admit() -> None:
        raise RolloutStopped("1000 calls are spent")

    with ByteEngine() as engine, Gateway() as gateway:
        passage = gateway.open(Scope("helper", responder=Answering(engine), admit=admit), {})
        sdk = anthropic.Anthropic(base_url=passage.url("anthropic"), api_key=passage.token)
        with sdk, pytest.raises(anthropic.PermissionDeniedError, match="1000 calls"):
            sdk.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "x"}])
    assert str(passage.stopped) == "1000 calls are spent" and engine.calls == []


def test_rewards_come_in_over_http() -> None:
    scope = Scope("helper", recorder=Recorder())
    with Gateway() as gateway:
        passage = gateway.open(scope, {})
        env = passage.environment({})
        headers = {"authorization": f"Bearer {env['AGENTLIGHTNING_TOKEN']}"}
        for body in ({"value": 0.5, "reason": "half right"}, {"value": 3, "name": "speed", "metric": True}):
            assert httpx.post(env["AGENTLIGHTNING_REWARD_URL"], json=body, headers=headers).status_code == 200
        assert httpx.post(env["AGENTLIGHTNING_REWARD_URL"], json={}, headers=headers).status_code == 400
        assert httpx.post(env["AGENTLIGHTNING_REWARD_URL"], json={"value": 1}).status_code == 401
    assert [(r.name, r.value, r.reason, r.is_metric) for r in scope.rewards] == [
        ("reward", 0.5, "half right", False),
        ("speed", 3.0, None, True),
    ]


def test_a_gateway_for_rollouts_serves_nothing_else() -> None:
    with Gateway() as gateway:
        assert ask(gateway).status_code == 404


def test_providers_are_where_each_sdk_would_look() -> None:
    env = {
        "OPENAI_BASE_URL": "http://o/v1/",
        "OPENAI_API_KEY": "ok",
        "ANTHROPIC_API_KEY": "ak",
        "AZURE_OPENAI_ENDPOINT": "https://x.azure.com",
        "OLLAMA_HOST": "0.0.0.0",
    }
    found = providers_of(env)
    assert found["openai"].url("/v1/chat/completions", "a=1") == "http://o/v1/chat/completions?a=1"
    assert found["anthropic"].url("/v1/messages") == "https://api.anthropic.com/v1/messages"
    assert found["azure"].url("/openai/x") == "https://x.azure.com/openai/x"
    assert found["ollama"].url("/api/chat") == "http://127.0.0.1:11434/api/chat"
    assert [found[name].headers for name in ("openai", "anthropic", "azure", "ollama")] == [
        {"authorization": "Bearer ok"},
        {"x-api-key": "ak"},
        {"api-key": "ok"},
        {},
    ]
    assert "azure" not in providers_of({}) and "ok" not in repr(found)
    old = providers_of({"OPENAI_API_TYPE": "azure", "OPENAI_API_BASE": "https://y", "OPENAI_API_KEY": "k"})
    assert old["azure"].base_url == "https://y"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:80", "http://box:80"),
        ("http://box", "http://box"),
        ("https://box/path/", "https://box/path"),
        ("http://box:1/p", "http://box:1/p"),
    ],
)
def test_ollamas_address_is_read_as_its_clients_do(given: str, address: str) -> None:
    assert providers_of({"OLLAMA_HOST": given})["ollama"].base_url == address


def test_a_path_tells_whose_it_is() -> None:
    named = {"chat": "openai", "responses": "openai", "messages": "anthropic", "azure": "azure"}
    assert {name: provider_for(path) for name, path in PATHS.items()} == named | {
        "ollama": "ollama",
        "ollama-generate": "ollama",
    }
    assert provider_for("/v1/messages/count_tokens") == "anthropic"


def test_no_providers_key_is_left_in_a_programs_environment() -> None:
    before = {
        "OPENAI_API_KEY": "secret-1",
        "ANTHROPIC_API_KEY": "secret-2",
        "ANTHROPIC_AUTH_TOKEN": "secret-3",
        "AZURE_OPENAI_API_KEY": "secret-4",
        "AZURE_OPENAI_AD_TOKEN": "secret-5",
        "PATH": "/bin",
        "NO_PROXY": "corp",
    }
    with Gateway() as gateway:
        passage = gateway.open(Scope("helper"))
        env = passage.environment(before)
        assert passage.environment(env) == env
    assert "secret" not in json.dumps(env) and env["PATH"] == "/bin" and env["NO_PROXY"] == "corp,127.0.0.1"
    assert msgspec.json.decode(msgspec.json.encode(env)) == env
