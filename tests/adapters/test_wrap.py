"""A wrapped agent is the same callable; a policy steers it and nothing else."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from tests.servers import FakeOpenAI

import agentlightning
from agentlightning import Policy, PromptSite, WrappedAgent, wrap_agent
from agentlightning.errors import AgentError

SITE = PromptSite("speak:system", "speak", "system", "Be brief.")
POLICY = Policy().with_prompt(SITE, "Be loud.")


def ask(server: FakeOpenAI, question: str) -> str:
    body = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}],
    }
    response = httpx.post(f"{server.base_url}/chat/completions", json=body)
    return response.json()["choices"][0]["message"]["content"]


def system_text(server: FakeOpenAI, index: int = -1) -> str:
    return server.requests[index].json["messages"][0]["content"]


def test_a_wrapped_function_is_called_as_before() -> None:
    def double(x: int, *, plus: int = 0) -> int:
        """Twice."""
        return 2 * x + plus

    agent = wrap_agent(double)
    assert agent(4, plus=1) == 9
    assert (agent.__name__, agent.__doc__, agent.agent) == ("double", "Twice.", double)


def test_use_steers_and_use_none_gives_the_original_back() -> None:
    with FakeOpenAI("ok") as server:
        agent = wrap_agent(lambda question: ask(server, question), name="speak")
        agent("one")
        agent.use(POLICY)("two")
        agent.use(None)("three")
        assert [system_text(server, i) for i in range(3)] == ["Be brief.", "Be loud.", "Be brief."]


def test_two_optimised_agents_live_side_by_side() -> None:
    with FakeOpenAI("ok") as server:
        agent = wrap_agent(lambda question: ask(server, question), name="speak")
        loud, calm = agent.steered(POLICY), agent.steered(Policy().with_prompt(SITE, "Be calm."))
        loud("a")
        calm("b")
        agent("c")
        assert [system_text(server, i) for i in range(3)] == ["Be loud.", "Be calm.", "Be brief."]


def test_async_functions_are_steered() -> None:
    async def speak(question: str) -> str:
        async with httpx.AsyncClient() as client:
            body = {"model": "m", "messages": [{"role": "system", "content": "Be brief."}]}
            response = await client.post(f"{server.base_url}/chat/completions", json=body)
        return response.json()["choices"][0]["message"]["content"]

    with FakeOpenAI("ok") as server:
        assert asyncio.run(wrap_agent(speak).use(POLICY)("hi")) == "ok"
        assert system_text(server) == "Be loud."


def test_generators_are_steered_only_while_they_run() -> None:
    def speak(question: str) -> Iterator[str]:
        yield ask(server, question)
        yield ask(server, question)

    with FakeOpenAI("ok") as server:
        for _ in wrap_agent(speak).use(POLICY)("hi"):
            ask(server, "the consumer's own call")
        assert [system_text(server, i) for i in range(4)] == ["Be loud.", "Be brief."] * 2


def test_async_generators_can_be_closed_early() -> None:
    async def speak(question: str) -> AsyncIterator[str]:
        for _ in range(3):
            yield ask(server, question)

    async def first() -> str:
        stream: Any = wrap_agent(speak).use(POLICY)("hi")
        async for piece in stream:
            await stream.aclose()
            return piece
        raise AssertionError

    with FakeOpenAI("ok") as server:
        assert asyncio.run(first()) == "ok"
        assert len(server.requests) == 1 and system_text(server) == "Be loud."


def test_a_prompt_that_has_changed_passes_untouched_and_is_warned_about_once() -> None:
    def speak(question: str) -> str:
        body = {"model": "m", "messages": [{"role": "system", "content": "Quite another prompt."}]}
        return httpx.post(f"{server.base_url}/chat/completions", json=body).json()["choices"][0]["message"]["content"]

    with FakeOpenAI("ok") as server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wrap_agent(speak).use(POLICY)("hi")
        assert system_text(server) == "Quite another prompt."
        assert "speak:system" in str(caught[0].message)


def test_the_decorator_wraps_plain_and_with_options() -> None:
    @agentlightning.agent
    def one(x: str) -> str:
        return x

    @agentlightning.agent(name="second", algorithm="apo")
    def two(x: str) -> str:
        return x + x

    assert isinstance(one, WrappedAgent) and one("a") == "a"
    assert (two.agent_id, two.algorithm, two("a")) == ("second", "apo", "aa")


@pytest.mark.parametrize(
    ("thing", "kind", "says"),
    [
        (42, None, "a int cannot be called"),
        (dict, None, "is a class"),
        (lambda: 1, None, "takes no argument"),
        (lambda x: x, "langchian", "unknown adapter 'langchian'"),
        ("text", "function", "cannot be called"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_with_what_was_found(thing: Any, kind: str | None, says: str) -> None:
    with pytest.raises((AgentError, agentlightning.errors.ConfigError), match=says):
        wrap_agent(thing, kind)


def test_a_client_is_no_agent() -> None:
    import openai

    client = openai.OpenAI(api_key="k")
    with pytest.raises(AgentError, match=r"a client of openai \(OpenAI\), not an agent"):
        wrap_agent(client, "openai_sdk")
    client.close()


def test_a_function_that_uses_another_sdk_is_refused_with_the_one_it_uses() -> None:
    from agentlightning.demo.agent import triage

    with pytest.raises(AgentError, match=r"agent_type='anthropic_sdk' was asked for, but triage\(\) uses openai, not"):
        wrap_agent(triage, "anthropic_sdk")


def test_a_function_that_may_be_the_agent_is_not_called_to_find_out() -> None:
    called: list[str] = []

    def get_answer(question: str = "why?") -> str:
        called.append(question)
        return question

    assert wrap_agent(get_answer).adapter.name == "function" and called == []


def test_functions_wrapped_inside_another_speak_as_themselves() -> None:
    with FakeOpenAI("ok") as server:
        writer = wrap_agent(lambda question: ask(server, question), name="writer")
        critic = wrap_agent(lambda question: ask(server, question), name="critic")
        site = PromptSite("critic:system", "critic", "system", "Be brief.")
        both = wrap_agent(lambda question: [writer(question), critic(question)], name="both")
        both.use(Policy().with_prompt(site, "Be harsh."))("hi")
        assert [system_text(server, i) for i in range(2)] == ["Be brief.", "Be harsh."]


def test_wrapping_twice_is_refused() -> None:
    with pytest.raises(AgentError, match="wrapped already"):
        wrap_agent(wrap_agent(lambda x: x))


def test_the_kind_is_detected_from_the_agents_module() -> None:
    from agentlightning.demo.agent import triage

    assert wrap_agent(triage).adapter.name == "openai_sdk"
    assert wrap_agent(lambda x: x).adapter.name == "function"
