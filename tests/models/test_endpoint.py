"""What users write about a model becomes an address and a key, and the key is never shown."""

from __future__ import annotations

from typing import Any

import pytest
from rich.pretty import pretty_repr

from agentlightning.errors import ConfigError
from agentlightning.models.endpoint import Endpoint

KEY = "sk-very-secret-0123456789"
ENV = {"OPENAI_API_KEY": KEY}


def test_a_name_alone_is_openai_with_the_usual_key() -> None:
    endpoint = Endpoint.from_spec("gpt-4o-mini", ENV)
    assert endpoint.url == "https://api.openai.com/v1/chat/completions"
    assert endpoint.headers == {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
def test_the_address_may_come_from_the_environment_and_then_needs_no_key(variable: str) -> None:
    endpoint = Endpoint.from_spec("llama", {variable: "http://localhost:8000/v1/"})
    assert endpoint.url == "http://localhost:8000/v1/chat/completions"
    assert endpoint.headers == {}


def test_a_missing_key_for_openai_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Endpoint.from_spec("gpt-4o-mini", {})


def test_a_mapping_sets_everything() -> None:
    spec = {"model": "m", "base_url": "https://x.test/v1", "api_key_env": "MY_KEY", "temperature": 0.2, "max_tokens": 9}
    endpoint = Endpoint.from_spec(spec, {"MY_KEY": f" {KEY}\n"} | ENV)
    assert endpoint.headers == {"authorization": f"Bearer {KEY}"}
    assert (endpoint.temperature, endpoint.max_tokens, endpoint.key_env) == (0.2, 9, "MY_KEY")


def test_an_api_version_makes_it_azure() -> None:
    base_url = "https://me.openai.azure.com/openai/deployments/mine"
    endpoint = Endpoint.from_spec({"model": "m", "base_url": base_url, "api_version": "2024-10-21"}, ENV)
    assert endpoint.url == f"{base_url}/chat/completions?api-version=2024-10-21"
    assert endpoint.headers == {"api-key": KEY}


def test_a_claude_model_is_asked_in_anthropics_format_with_anthropics_key() -> None:
    endpoint = Endpoint.from_spec("claude-sonnet-5", ENV | {"ANTHROPIC_API_KEY": "sk-ant-0123456789"})
    assert endpoint.url == "https://api.anthropic.com/v1/messages"
    assert endpoint.headers == {"anthropic-version": "2023-06-01", "x-api-key": "sk-ant-0123456789"}
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        Endpoint.from_spec("claude-sonnet-5", ENV)


@pytest.mark.parametrize("base_url", ["https://api.anthropic.com", "https://api.anthropic.com/v1/"])
def test_anthropics_address_is_understood_with_its_version_and_without(base_url: str) -> None:
    spec = {"model": "m", "base_url": base_url, "api_key": KEY}
    assert Endpoint.from_spec(spec, {}).url == "https://api.anthropic.com/v1/messages"


def test_a_claude_model_behind_another_address_is_asked_as_that_address_usually_is() -> None:
    assert Endpoint.from_spec("claude-sonnet-5", {"OPENAI_BASE_URL": "http://gateway.test/v1"}).dialect == "chat"
    assert Endpoint.from_spec({"model": "claude-sonnet-5", "base_url": "http://gateway.test/v1"}, {}).dialect == "chat"


def test_ollama_is_found_where_its_own_variable_says() -> None:
    spec = {"model": "llama", "dialect": "ollama"}
    assert Endpoint.from_spec(spec, ENV).url == "http://127.0.0.1:11434/api/chat"
    endpoint = Endpoint.from_spec(spec, ENV | {"OLLAMA_HOST": "box:9000"})
    assert (endpoint.url, endpoint.headers) == ("http://box:9000/api/chat", {})


def test_responses_are_posted_beside_chat_completions() -> None:
    endpoint = Endpoint.from_spec({"model": "m", "dialect": "responses"}, ENV)
    assert endpoint.url == "https://api.openai.com/v1/responses"
    assert endpoint.headers == {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(
    ("spec", "env", "said"),
    [
        ({"model": "m", "dialect": "gemini"}, ENV, "no dialect 'gemini'. Known: chat, responses, messages, ollama"),
        ({"model": "m", "api_key_env": "MY_KEY"}, ENV, "MY_KEY"),
        ({"model": "m", "temprature": 1}, ENV, "Did you mean 'temperature'"),
        ({"base_url": "http://x.test"}, ENV, "'model'"),
        ("", ENV, "'model'"),
        ({"model": "m", "base_url": "x.test/v1"}, ENV, "x.test/v1"),
        ({"model": "m", "temperature": "hot"}, ENV, "temperature"),
        ({"model": "m", "headers": {"a": 1}}, ENV, "headers"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(spec: Any, env: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Endpoint.from_spec(spec, env)


@pytest.mark.parametrize("key", ["“sk-quoted-by-a-word-processor”", "sk-two parts", "sk-broken\nin-two"])
def test_a_key_pasted_badly_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as caught:
        Endpoint.from_spec("m", {"OPENAI_API_KEY": key})
    assert key not in str(caught.value)


def test_no_way_of_printing_an_endpoint_shows_a_secret() -> None:
    base_url = f"https://user:{KEY}@x.test:8443/v1"
    endpoint = Endpoint(model="m", base_url=base_url, headers={"authorization": KEY}, query=f"key={KEY}")
    for shown in (repr(endpoint), str(endpoint), pretty_repr(endpoint), f"{endpoint}", endpoint.address):
        assert KEY not in shown
        assert "https://x.test:8443/v1" in shown
