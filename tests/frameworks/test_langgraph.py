"""LangGraph: states of one's own, memory, agents inside nodes, node caches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.tools import InjectedToolCallId
from tests.contract.adapters.cases.langchain_case import LangChainCase
from tests.contract.adapters.cases.langgraph_case import LangGraphCase
from tests.contract.adapters.model import CRITIC, WRITER, chat_model, lookup, question
from tests.contract.adapters.rollouts import rollout, rollouts
from tests.servers import FakeOpenAI
from typing_extensions import TypedDict

from agentlightning import Policy, PromptSite, wrap_agent
from agentlightning.adapters import runnable_hooks, watching
from agentlightning.errors import AgentError
from agentlightning.interception.tools import Tape
from agentlightning.trainer.config import config_from
from agentlightning.trainer.resolve import load_agent

HELLO = question("hello")


class Draft(TypedDict, total=False):
    question: str
    draft: str
    answer: str


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        yield running


def model(server: FakeOpenAI) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="m", api_key="k", base_url=server.base_url)  # type: ignore[arg-type]


def graph_of(*nodes: Any, state: Any = Draft, **options: Any) -> Any:
    from langgraph.graph import StateGraph

    graph = StateGraph(state)
    graph.add_sequence([(name, node) for name, node in nodes])
    graph.set_entry_point(nodes[0][0])
    graph.set_finish_point(nodes[-1][0])
    return graph.compile(**options)


def test_a_state_of_ones_own_takes_a_question_and_gives_an_answer(server: FakeOpenAI) -> None:
    def write(state: Draft) -> Draft:
        return {"answer": model(server).invoke([("system", WRITER), ("user", state["question"])]).content}

    agent = wrap_agent(graph_of(("write", write)))
    assert agent.adapter.name == "langgraph" and agent.adapter.members() == ["write"]
    assert rollout(agent, HELLO).output == "hello"
    assert rollout(agent, {"question": HELLO}).output == "hello"


def test_an_async_node_runs(server: FakeOpenAI) -> None:
    async def write(state: Draft) -> Draft:
        return {"answer": (await model(server).ainvoke([("system", WRITER), ("user", state["question"])])).content}

    assert [done.output for done in rollouts(wrap_agent(graph_of(("write", write))), [HELLO] * 4)] == ["hello"] * 4


def test_memory_is_not_shared_between_rollouts(server: FakeOpenAI) -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import MessagesState

    def write(state: MessagesState) -> Any:
        return {"messages": [model(server).invoke([("system", WRITER), *state["messages"]])]}

    agent = wrap_agent(graph_of(("write", write), state=MessagesState, checkpointer=InMemorySaver()))
    done = rollouts(agent, [question("a"), question("b")])
    assert [each.output for each in done] == ["a", "b"]
    assert all(len(each.calls[0].call.messages) == 2 for each in done if each.calls[0].call)


def test_agents_inside_nodes_speak_by_their_own_name(server: FakeOpenAI) -> None:
    from langchain.agents import create_agent
    from langgraph.graph import MessagesState

    named = create_agent(model(server), [], system_prompt=WRITER, name="bob")
    unnamed = create_agent(model(server), [], system_prompt=CRITIC)

    def call(state: MessagesState) -> Any:
        return {"messages": unnamed.invoke({"messages": state["messages"]})["messages"][-1:]}

    agent = wrap_agent(graph_of(("first", named), ("second", call), state=MessagesState))
    assert agent.adapter.members() == ["bob", "second"]
    assert rollout(agent, HELLO).speakers == ["bob", "second"]


@pytest.fixture
def cached(server: FakeOpenAI) -> Any:
    """A graph that answers each question once, and then from its cache."""
    from langgraph.cache.memory import InMemoryCache
    from langgraph.graph import END, START, StateGraph
    from langgraph.types import CachePolicy

    def write(state: Draft) -> Draft:
        return {"answer": model(server).invoke([("system", WRITER), ("user", state["question"])]).content}

    graph = StateGraph(Draft)
    graph.add_node("write", write, cache_policy=CachePolicy())
    graph.add_edge(START, "write")
    graph.add_edge("write", END)
    return graph.compile(cache=InMemoryCache())


LOUD = Policy().with_prompt(PromptSite("write:system", "write", "system", WRITER), "Shout.")


def test_a_node_cache_does_not_answer(server: FakeOpenAI, cached: Any) -> None:
    agent = wrap_agent(cached)
    assert rollout(agent, HELLO).output == rollout(agent, HELLO).output == "hello"
    assert len(server.requests) == 2


def test_a_node_cache_does_not_answer_for_an_optimised_graph_nor_hear_of_it(server: FakeOpenAI, cached: Any) -> None:
    agent = wrap_agent(cached, name="graph")
    plain, loud = agent, agent.steered(LOUD)
    asked = {"question": HELLO}
    assert plain.invoke(asked)["answer"] == plain.invoke(asked)["answer"] == "hello" and len(server.requests) == 1
    assert loud.invoke(asked)["answer"] == "LOUD HELLO"
    assert list(loud.stream(asked)) == [{"write": {"answer": "LOUD HELLO"}}]
    assert asyncio.run(loud.ainvoke(asked))["answer"] == "LOUD HELLO"
    assert plain.invoke(asked)["answer"] == "hello" and len(server.requests) == 4


def test_a_node_cache_does_not_answer_within_another_graph_or_a_function(cached: Any) -> None:
    def ask(question: str) -> str:
        return cached.invoke({"question": question})["answer"]

    outer = graph_of(("inner", cached))
    asked = {"question": HELLO}
    assert ask(HELLO) == "hello"
    assert wrap_agent(ask).steered(LOUD)(HELLO) == "LOUD HELLO"
    assert wrap_agent(outer, name="outer").steered(LOUD).invoke(asked)["answer"] == "LOUD HELLO"


def test_canary_graphs_are_run_there() -> None:
    from langgraph.pregel import Pregel

    assert hasattr(Pregel.stream, "__wrapped__") and hasattr(Pregel.astream, "__wrapped__")


def test_a_tool_that_steers_the_graph_is_recorded_and_its_command_replayed(server: FakeOpenAI) -> None:
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import tool
    from langgraph.graph import MessagesState
    from langgraph.prebuilt import ToolNode
    from langgraph.types import Command

    runs: list[str] = []

    def note(word: str, call_id: Annotated[str, InjectedToolCallId]) -> Any:
        """Note a word down."""
        runs.append(word)
        return Command(update={"messages": [ToolMessage(f"noted {word}", tool_call_id=call_id)], "draft": word})

    class State(MessagesState, total=False):
        draft: str

    def ask(state: State) -> Any:
        call = {"name": "note", "args": {"word": "moon"}, "id": f"call-{len(runs)}", "type": "tool_call"}
        return {"messages": [{"role": "assistant", "content": "", "tool_calls": [call]}]}

    def write(state: State) -> Any:
        return {"messages": [model(server).invoke([("system", WRITER), ("user", question(state["draft"]))])]}

    graph = graph_of(("ask", ask), ("tools", ToolNode([tool(note)])), ("write", write), state=State)
    tape = Tape()
    first, second = (rollout(wrap_agent(graph, tools={"note": "record"}), HELLO, tape=tape) for _ in range(2))
    assert runs == ["moon"] and first.output == second.output == "moon"
    assert first.tools[0].arguments == {"word": "moon"}
    read = Tape()
    read.put("note", first.tools[0].arguments, first.tools[0].result)
    third = rollout(wrap_agent(graph, tools={"note": "replay"}), HELLO, tape=read)
    assert runs == ["moon"] and third.output == "moon"


def test_a_tool_whose_failure_is_told_to_the_model_is_a_failed_step(server: FakeOpenAI) -> None:
    from langchain.agents import create_agent
    from langchain_core.tools import ToolException, tool

    def look(word: str) -> str:
        """Look a word up."""
        raise ToolException("no such word")

    kind: Any = tool(look)
    kind.handle_tool_error = True
    done = rollout(wrap_agent(create_agent(model(server), [kind], system_prompt=WRITER)), question("tool moon"))
    assert done.output == "no such word" and done.tools[0].error == "ToolFailed: no such word"


def test_a_graph_that_is_not_compiled_is_refused_with_the_remedy() -> None:
    from langgraph.graph import StateGraph

    with pytest.raises(AgentError, match=r"wrap graph\.compile\(\)"):
        wrap_agent(StateGraph(Draft), "langgraph")


def test_without_the_running_config_the_call_stack_names_the_node(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])
    monkeypatch.setattr(watching, "_missing", {})
    runnable_hooks.watch_runs(object())
    for case in (LangGraphCase(), LangChainCase()):
        agent = wrap_agent(case.team(server))
        done = rollouts(agent, [HELLO, question("again")])
        assert [each.speakers for each in done] == [["writer", "critic"]] * 2
        assert "has no ensure_config: nodes of graphs are told apart by the call stack" in agent.adapter.health()[0]


def test_canary_nodes_run_as_tasks_that_show_their_config(server: FakeOpenAI) -> None:
    from langgraph.types import PregelExecutableTask

    assert {"name", "config"} <= set(PregelExecutableTask.__dataclass_fields__)


def test_the_structure_is_the_graphs(server: FakeOpenAI) -> None:
    built = wrap_agent(LangGraphCase().team(server, tool=lookup)).adapter.structure()
    assert [(each.source, each.how, each.target) for each in built.links] == [
        ("start", "then", "writer"),
        ("tools", "then", "writer"),
        ("writer", "if end", "critic"),
        ("writer", "may go to", "tools"),
        ("critic", "then", "end"),
    ]
    assert built.tools == {"lookup": "Look a word up."}


def test_a_function_with_a_graph_inside_names_its_nodes(server: FakeOpenAI) -> None:
    def write(state: Draft) -> Draft:
        return {"answer": model(server).invoke([("system", WRITER), ("user", state["question"])]).content}

    inner = graph_of(("write", write))

    def answer(text: str) -> str:
        return inner.invoke({"question": text})["answer"]

    assert rollout(wrap_agent(answer), HELLO).speakers == ["write"]


MODEL = """
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(model="m", api_key="k", base_url="http://127.0.0.1:1/v1")
"""
GRAPH = """
from typing import TypedDict
from langgraph.graph import StateGraph

class State(TypedDict):
    question: str

def think(state): return {"question": llm.invoke(state["question"]).content}

graph = StateGraph(State)
graph.add_node("think", think)
graph.set_entry_point("think")
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (GRAPH + "app = graph.compile()", ("langgraph", "graph")),
        (GRAPH + "def build_app(): return graph.compile()", ("langgraph", "graph")),
        ("def answer(question): return llm.invoke(question).content", ("function", "answer")),
        ("", ("langchain", "chain")),
    ],
)
def test_in_a_file_with_a_model_what_uses_it_is_the_agent(body: str, expected: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL + body)
    agent = load_agent(config_from({"agent": {"path": "mine.py"}}, tmp_path)).agent
    assert (agent.adapter.name, agent.agent_id) == expected


def test_two_graphs_in_a_file_are_listed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL + GRAPH + "one, two = graph.compile(), graph.compile()")
    with pytest.raises(AgentError, match=r"mine\.py:one, mine\.py:two"):
        load_agent(config_from({"agent": {"path": "mine.py"}}, tmp_path))
