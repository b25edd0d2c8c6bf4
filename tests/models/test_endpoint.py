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


@pytest.mark.parametrize(
    ("spec", "env", "said"),
    [
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
