"""LiteLLM: its own cache, and the names that is kept silent by."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.adapters.model import WRITER, chat_model, question
from tests.servers import FakeOpenAI

from agentlightning import Policy, PromptSite, wrap_agent

HELLO = question("hello")
LOUD = Policy().with_prompt(PromptSite("ask:system", "ask", "system", WRITER), "Shout.")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What a call says, with a cache that has the unsteered answer already."""
    import litellm
    from litellm.caching.caching import Cache

    with FakeOpenAI(chat_model) as server:
        messages = [{"role": "system", "content": WRITER}, {"role": "user", "content": HELLO}]
        call = {"model": "openai/m", "api_base": server.base_url, "api_key": "k", "messages": messages, "caching": True}
        monkeypatch.setattr(litellm, "cache", Cache(type="local"))  # type: ignore[arg-type]
        litellm.completion(**call)
        assert litellm.cache.get_cache(**call) is not None  # type: ignore[union-attr]
        yield call


def test_a_cache_does_not_answer_an_optimised_agent(asked: dict[str, Any]) -> None:
    import litellm

    def ask(_question: str) -> Any:
        return litellm.completion(**asked).choices[0].message.content  # type: ignore[union-attr]

    async def ask_async(_question: str) -> Any:
        return (await litellm.acompletion(**asked)).choices[0].message.content  # type: ignore[union-attr]

    assert wrap_agent(ask).use(LOUD)(HELLO) == "LOUD HELLO"
    assert asyncio.run(wrap_agent(ask_async, name="ask").use(LOUD)(HELLO)) == "LOUD HELLO"


def test_a_cache_does_not_hear_what_an_optimised_agent_was_told(asked: dict[str, Any]) -> None:
    import litellm

    def ask(_question: str) -> Any:
        return litellm.completion(**asked).choices[0].message.content  # type: ignore[union-attr]

    wrap_agent(ask).use(LOUD)(HELLO)
    assert "LOUD" not in str(litellm.cache.get_cache(**asked))  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["get_cache", "async_get_cache", "add_cache", "async_add_cache"])
def test_canary_the_cache_is_asked_there(name: str) -> None:
    from litellm.caching.caching import Cache

    wrap_agent(lambda question: question)
    assert hasattr(getattr(Cache, name), "__wrapped__")
