"""A policy changes what it names in a call, and nothing else of it."""

from __future__ import annotations

import json
import warnings
from typing import Any

import msgspec
import pytest
from tests.interception.rollout import QUESTION, STREAMED, TRANSPORTS, post, rollout
from tests.servers import FakeOpenAI

from agentlightning.data.call import Call
from agentlightning.data.resource import Demo, Policy, PromptSite, Slot
from agentlightning.errors import ConfigError
from agentlightning.interception.dialects import DIALECTS
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered, speaking

SITE = PromptSite(id="s1", agent="helper", kind="system", template="Be ⟦mood⟧.", slots=[Slot("mood")])
POLICY = Policy().with_prompt(SITE, "Always be ⟦mood⟧, in one word.")


def sent(body: Any, policy: Policy, transport: str = "httpx", **options: Any) -> tuple[dict[str, Any], Recorder]:
    """What arrived at the server of a request made under a policy."""
    with FakeOpenAI() as server, rollout(policy=policy, **options) as recorder:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        post(transport, server.base_url + "/chat/completions", content=content)
    return server.requests[0].json, recorder


def test_another_model_than_the_deployment_in_azures_address_is_an_error_and_nothing_is_sent() -> None:
    with FakeOpenAI() as server, rollout(policy=Policy(models={"helper": "m-2"})) as recorder:
        url = f"{server.url}/openai/deployments/m-1/chat/completions?api-version=2024-06-01"
        with pytest.raises(ConfigError, match="'m-1' in its address"):
            post("httpx", url, content=json.dumps(QUESTION).encode())
    assert server.requests == []
    assert "'m-2'" in str(recorder.steps()[0].error)


_SCHEMA = {"type": "object", "properties": {"id": {"type": "string", "description": "Like 17."}}}
_FUNCTION = {"name": "find", "description": "Finds an order.", "parameters": _SCHEMA}
_FLAT = {
    "name": "find",
    "description": "Finds an order.",
    "input_schema": _SCHEMA,
    "cache_control": {"type": "ephemeral"},
}
TOOL_BODIES: dict[str, Any] = {
    "chat": QUESTION | {"tools": [{"type": "function", "function": _FUNCTION}]},
    "chat, functions": QUESTION | {"functions": [_FUNCTION]},
    "messages": QUESTION | {"max_tokens": 9, "tools": [_FLAT]},
    "responses": {"model": "m", "input": "Hi", "tools": [{"type": "function", **_FUNCTION}, {"type": "web_search"}]},
    "ollama": QUESTION | {"tools": [{"type": "function", "function": _FUNCTION}]},
}


@pytest.mark.parametrize("name", TOOL_BODIES)
def test_a_tools_description_is_steered_in_every_dialect_and_its_schema_stays(name: str) -> None:
    dialect = next(each for each in DIALECTS if each.name == name.partition(",")[0])
    site = PromptSite("helper:tool:find", "helper", "tool", "Finds an order.", tool="find")
    body = TOOL_BODIES[name]
    before = dialect.call(body, "helper")
    applied = Policy().with_prompt(site, "Call this first.").apply(before)
    assert applied.steered == (site.id,)
    wanted = json.dumps(body).replace("Finds an order.", "Call this first.")
    assert dialect.rewrite(body, before, applied.call) == json.loads(wanted)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("body", [QUESTION, STREAMED])
def test_prompt_demos_model_and_sampling_are_steered_everywhere(transport: str, body: dict[str, Any]) -> None:
    policy = msgspec.structs.replace(
        POLICY.with_demos("helper", [Demo("1+1", "2")]),
        models={"helper": "m-2", "other": "m-3"},
        sampling={"helper": {"temperature": 0.1}},
    )
    arrived, recorder = sent(body, policy, transport)
    messages = [
        {"role": "system", "content": "Always be kind, in one word."},
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "Hi"},
    ]
    asked = {"stream_options": {"include_usage": True}} if "stream" in body else {}
    assert arrived == body | {"model": "m-2", "messages": messages, "temperature": 0.1} | asked
    [step] = recorder.steps()
    assert step.call is not None and step.call.messages == messages and step.call.model == "m-2"
    assert (step.steered_sites, step.missed_sites, step.policy_id) == (["s1"], [], policy.id)


def test_a_prompt_that_does_not_match_goes_out_as_it_is_and_is_counted() -> None:
    body = QUESTION | {"messages": [{"role": "system", "content": "Something else"}]}
    scope = Scope("helper", policy=POLICY, recorder=Recorder())
    content = json.dumps(body).encode()
    with FakeOpenAI() as server, entered(scope):
        post("httpx", server.base_url + "/chat/completions", content=content)
        post("httpx", server.base_url + "/chat/completions", content=content)
    assert [seen.body for seen in server.requests] == [content, content]
    assert scope.recorder is not None and scope.missed == {"s1": 2}
    assert [(step.steered_sites, step.missed_sites) for step in scope.recorder.steps()] == [([], ["s1"])] * 2


def test_an_optimised_agent_warns_once_that_its_prompt_changed() -> None:
    body = QUESTION | {"messages": [{"role": "system", "content": "Something else"}]}
    scope = Scope("helper", policy=POLICY)
    with FakeOpenAI() as server, entered(scope), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            post("httpx", server.base_url + "/chat/completions", body)
    assert [warning.category for warning in caught if "no longer looks like" in str(warning.message)] == [UserWarning]
    assert scope.missed == {"s1": 3}


def test_only_the_agent_the_policy_names_is_steered() -> None:
    with FakeOpenAI() as server, rollout("team", policy=POLICY) as recorder:
        for agent in ("writer", "helper"):
            with speaking(agent):
                post("httpx", server.base_url + "/chat/completions", QUESTION)
        post("httpx", server.base_url + "/chat/completions", QUESTION)
    prompts = [seen.json["messages"][0]["content"] for seen in server.requests]
    assert prompts == ["Be kind.", "Always be kind, in one word.", "Be kind."]
    assert [step.agent for step in recorder.steps()] == ["writer", "helper", "team"]


def test_what_is_not_steered_keeps_its_bytes() -> None:
    kept = b'"n":1.0, "seed":123456789012345678901234567890 ,"x":{"b": 1e3,"a":"\\u00e9"}'
    content = b'{"z":0,' + kept + b',"messages":[{"role":"system","content":"Be kind.","cache":true}],"model":"m"}'
    with FakeOpenAI() as server, rollout(policy=POLICY):
        post("httpx", server.base_url + "/chat/completions", content=content)
    arrived = server.requests[0]
    assert list(arrived.json) == ["z", "n", "seed", "x", "messages", "model"]
    for piece in (b'"n":1.0', b"123456789012345678901234567890", b'{"b": 1e3,"a":"\\u00e9"}'):
        assert piece in arrived.body
    assert arrived.json["messages"] == [{"role": "system", "content": "Always be kind, in one word.", "cache": True}]


def test_the_length_and_every_other_header_arrive_right() -> None:
    headers = {"Authorization": "Bearer k", "X-Custom": "1", "Content-Type": "application/json"}
    seen = []
    for transport in TRANSPORTS:
        with FakeOpenAI() as server, rollout(policy=POLICY):
            post(transport, server.base_url + "/chat/completions", QUESTION, headers=headers)
        seen.append(server.requests[0])
    for request in seen:
        assert request.headers["content-length"] == str(len(request.body))
        assert {request.headers[key.lower()] for key in headers} == set(headers.values())


def test_images_beside_the_prompt_survive() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,x"}}
    parts = [{"type": "text", "text": "Be kind."}, image]
    arrived, _ = sent(QUESTION | {"messages": [{"role": "system", "content": parts}]}, POLICY)
    assert arrived["messages"][0]["content"] == [{"type": "text", "text": "Always be kind, in one word."}, image]


def test_a_predict_hook_decides_what_is_sent() -> None:
    given: list[tuple[Call, Policy]] = []

    def predict(call: Call, policy: Policy) -> Call:
        given.append((call, policy))
        params = {key: value for key, value in call.params.items() if key != "top_p"}
        return msgspec.structs.replace(policy.apply(call).call, params=params | {"seed": 7})

    arrived, _ = sent(QUESTION | {"top_p": 1, "user": "u"}, POLICY, predict=predict)
    assert arrived["messages"][0]["content"] == "Always be kind, in one word."
    assert (arrived["seed"], arrived["user"], "top_p" in arrived) == (7, "u", False)
    assert [(call.agent, policy.id) for call, policy in given] == [("helper", POLICY.id)]


def test_a_predict_hook_works_on_the_original_policy_too() -> None:
    arrived, _ = sent(QUESTION, Policy(), predict=lambda call, _: msgspec.structs.replace(call, model="hooked"))
    assert arrived["model"] == "hooked"


def test_a_predict_hook_that_fails_is_seen_and_nothing_is_sent() -> None:
    def predict(call: Call, policy: Policy) -> Call:
        raise ZeroDivisionError("in predict")

    with FakeOpenAI() as server, rollout(predict=predict) as recorder, pytest.raises(ZeroDivisionError):
        post("httpx", server.base_url + "/chat/completions", QUESTION)
    [step] = recorder.steps()
    assert server.requests == [] and step.error == "ZeroDivisionError: in predict"


def test_a_policy_that_changes_nothing_sends_the_agents_own_bytes() -> None:
    content = b'{ "model": "m-2",  "messages": [{"role": "user", "content": "Hi"}] }'
    with FakeOpenAI() as server, rollout(policy=Policy(models={"helper": "m-2"})):
        post("httpx", server.base_url + "/chat/completions", content=content)
    assert server.requests[0].body == content
