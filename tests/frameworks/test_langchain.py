"""LangChain: chains and what they take and give, async parts, caches, and the names the adapter leans on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from tests.contract.adapters.cases.langchain_case import AgentExecutorCase
from tests.contract.adapters.model import WRITER, chat_model, question
from tests.contract.adapters.rollouts import answers_of, rollout, rollouts, site_of
from tests.servers import FakeOpenAI

from agentlightning import Policy, PromptSite, wrap_agent
from agentlightning.adapters import watching
from agentlightning.adapters.runnables import answer_of
from agentlightning.errors import AgentError
from agentlightning.interception import fingerprint

HELLO = question("hello")


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        yield running


def model(server: FakeOpenAI, **options: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", api_key="k", base_url=server.base_url, **options)  # type: ignore[arg-type]


def prompt(text: str = "{question}") -> Any:
    from langchain_core.prompts import ChatPromptTemplate

    return ChatPromptTemplate.from_messages([("system", WRITER), ("user", text)])


def test_a_chain_takes_text_by_its_one_variable(server: FakeOpenAI) -> None:
    agent = wrap_agent(prompt() | model(server), name="chain")
    done = rollout(agent, HELLO)
    assert (agent.adapter.name, done.output, done.speakers) == ("langchain", "hello", ["chain"])
    assert rollout(agent, {"question": HELLO}).output == "hello"


def test_a_chain_with_two_variables_asks_for_fields(server: FakeOpenAI) -> None:
    agent = wrap_agent(prompt("{question} in {language}") | model(server))
    [refused] = rollouts(agent, [HELLO])
    assert isinstance(refused.error, AgentError) and "'language', 'question'" in str(refused.error)
    assert rollout(agent, {"question": HELLO, "language": "English"}).output == "hello"


def test_a_chain_that_assigns_first_takes_what_it_does_not_assign(server: FakeOpenAI) -> None:
    from langchain_core.runnables import RunnablePassthrough

    chain = (
        RunnablePassthrough.assign(tone=lambda given: "kind") | prompt("{question}, in a {tone} voice") | model(server)
    )
    assert rollout(wrap_agent(chain), HELLO).output == "hello"


def test_agents_that_a_function_of_the_chain_uses_are_members(server: FakeOpenAI) -> None:
    from langchain.agents import create_agent
    from langchain_core.runnables import RunnableLambda

    bob = create_agent(model(server), [], system_prompt=WRITER, name="bob")
    chain = prompt() | RunnableLambda(lambda given: bob.invoke({"messages": given.to_messages()})["messages"][-1])
    agent = wrap_agent(chain)
    assert agent.adapter.members() == ["bob"] and rollout(agent, HELLO).speakers == ["bob"]


def test_an_executor_with_an_async_tool_runs(server: FakeOpenAI) -> None:
    from langchain_core.tools import tool

    async def look(word: str) -> str:
        """Look a word up."""
        return f"meaning of {word}"

    executor = AgentExecutorCase().executor("writer", WRITER, model(server), [tool(look)], stream=False)
    done = rollout(wrap_agent(executor), question("tool moon"))
    assert (done.output, done.speakers) == ("meaning of moon", ["writer", "writer"])
    assert [(step.name, step.agent) for step in done.tools] == [("look", "writer")]


def test_executors_without_their_hook_are_told_apart_by_their_prompts(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from langchain_classic.agents import AgentExecutor

    wrap_agent(lambda x: x)
    for name in ("invoke", "ainvoke"):
        monkeypatch.setattr(AgentExecutor, name, getattr(AgentExecutor, name).__wrapped__)
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr(fingerprint, "_known", {})
    watching.listen("langchain_classic.agents.agent", "runnable_hooks:watch_executors", object())
    agent = wrap_agent(AgentExecutorCase().team(server))
    assert rollout(agent, HELLO).speakers == ["writer", "critic"]
    assert "has no AgentExecutor: agent executors are not told apart." in agent.adapter.health()[0]
    assert agent.adapter.health()[1] == "where that fails, its agents are told apart by their instructions."


def test_canary_executors_show_the_loop_inside(server: FakeOpenAI) -> None:
    wrap_agent(lambda x: x)
    executor = AgentExecutorCase().executor("writer", WRITER, model(server), [], stream=False)
    assert hasattr(executor.agent, "runnable") and hasattr(type(executor).invoke, "__wrapped__")


def test_tools_of_a_framework_inside_a_function_take_modes(server: FakeOpenAI) -> None:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    def send_mail(word: str) -> str:
        """Send a mail."""
        raise AssertionError("it was sent")

    module: Any = ModuleType("a_users_file")
    module.TOOLS = [tool(send_mail)]
    module.graph = create_agent(model(server), module.TOOLS, system_prompt=WRITER)
    exec("def ask(q):\n    return graph.invoke({'messages': [('user', q)]})['messages'][-1].content", vars(module))
    agent = wrap_agent(module.ask, tools={"send_mail": "stub"})
    assert agent.writing_tools() == ["send_mail"]
    assert rollout(agent, question("tool moon")).output == "ok (stubbed)"
    with pytest.raises(AgentError, match="there is no function 'sendmail'"):
        wrap_agent(module.ask, tools={"sendmail": "stub"}).prepare()


def test_fields_that_do_not_fit_name_those_that_do(server: FakeOpenAI) -> None:
    [refused] = rollouts(wrap_agent(prompt() | model(server)), [{"qestion": "x"}])
    assert "Did you mean 'question'" in str(refused.error)


def test_what_only_runs_asynchronously_does(server: FakeOpenAI) -> None:
    from langchain_core.runnables import RunnableLambda

    async def think(question: str) -> Any:
        return (await model(server).ainvoke([("system", WRITER), ("user", question)])).content

    assert rollout(wrap_agent(RunnableLambda(think)), HELLO).output == "hello"


def test_a_cache_does_not_answer_a_steered_call(server: FakeOpenAI) -> None:
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache

    set_llm_cache(InMemoryCache())
    try:
        chain = prompt() | model(server)
        assert [chain.invoke({"question": HELLO}).content for _ in range(2)] == ["hello"] * 2
        assert len(server.requests) == 1
        agent = wrap_agent(chain, name="chain")
        loud = Policy().with_prompt(site_of(rollout(agent, HELLO), "chain"), "Shout.")
        assert rollout(agent, HELLO, loud).output == "LOUD HELLO"
        assert answers_of(lambda: wrap_agent(chain, name="chain").use(loud)(HELLO)) == ["LOUD HELLO"]
        assert chain.invoke({"question": HELLO}).content == "hello" and len(server.requests) == 4
    finally:
        set_llm_cache(None)


def test_a_models_own_cache_does_not_either(server: FakeOpenAI) -> None:
    from langchain_core.caches import InMemoryCache

    agent = wrap_agent(prompt() | model(server, cache=InMemoryCache()), name="chain")
    assert [done.output for done in (rollout(agent, HELLO), rollout(agent, HELLO))] == ["hello"] * 2
    assert len(server.requests) == 2


@pytest.mark.parametrize("is_async", [False, True])
def test_a_model_of_the_older_kind_is_not_answered_by_a_cache(server: FakeOpenAI, is_async: bool) -> None:
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache
    from langchain_core.language_models.llms import LLM

    class Own(LLM):
        @property
        def _llm_type(self) -> str:
            return "own"

        def _call(self, prompt: str, *_: Any, **__: Any) -> str:
            messages = [{"role": "system", "content": WRITER}, {"role": "user", "content": prompt}]
            answer = httpx.post(f"{server.base_url}/chat/completions", json={"model": "m", "messages": messages})
            return answer.json()["choices"][0]["message"]["content"]

    async def ask(question: str) -> str:
        return await Own().ainvoke(question) if is_async else Own().invoke(question)

    set_llm_cache(InMemoryCache())
    try:
        agent = wrap_agent(ask)
        assert asyncio.run(agent(HELLO)) == "hello"
        loud = Policy().with_prompt(PromptSite("ask:system", "ask", "system", WRITER), "Shout.")
        assert asyncio.run(agent.steered(loud)(HELLO)) == "LOUD HELLO"
        assert asyncio.run(agent(HELLO)) == "hello" and len(server.requests) == 2
    finally:
        set_llm_cache(None)


def test_answers_become_text_or_data() -> None:
    from langchain_core.messages import AIMessage

    assert answer_of(AIMessage([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])) == "ab"
    assert answer_of({"messages": [AIMessage("x")], "structured_response": {"a": 1}}) == {"a": 1}
    assert answer_of({"input": "q", "output": "a"}, {"input": "q"}) == "a"
    assert answer_of({"question": "q", "draft": "d"}, {"question": "q"}) == "d"
    assert answer_of("text") == "text"


def test_canary_the_hooks_found_all_they_lean_on(server: FakeOpenAI) -> None:
    model(server)
    wrap_agent(prompt() | model(server))
    assert watching.missing("langchain") == []


@pytest.mark.parametrize("name", ["_generate_with_cache", "_agenerate_with_cache"])
def test_canary_models_answer_from_caches_there(name: str) -> None:
    from langchain_core.language_models.chat_models import BaseChatModel

    assert hasattr(getattr(BaseChatModel, name), "__wrapped__")


def test_canary_created_agents_are_marked(server: FakeOpenAI) -> None:
    from langchain.agents import create_agent

    from agentlightning.adapters.runnables import is_created_agent

    assert is_created_agent(create_agent(model(server), []))
