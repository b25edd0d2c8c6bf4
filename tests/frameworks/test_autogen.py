"""AutoGen: every kind of team, copies of them, loading by path, and the private names the adapter leans on."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from tests.contract.adapters.cases.autogen_case import AutoGenCase, client_for
from tests.contract.adapters.model import CRITIC, WRITER, chat_model, question
from tests.contract.adapters.rollouts import rollout, rollouts
from tests.servers import FakeOpenAI

from agentlightning import Policy, PromptSite, wrap_agent
from agentlightning.adapters import autogen_hooks, watching
from agentlightning.interception import fingerprint
from agentlightning.interception.sites import ObservedCall, discover_sites
from agentlightning.trainer.config import config_from
from agentlightning.trainer.resolve import load_agent

HELLO = question("hello")
NAMING = [name for name, hook in watching.HOOKS.items() if hook == "autogen_hooks:watch_agents"]
FILE = """
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient

{body}
"""
CLIENT = 'client = OpenAIChatCompletionClient(model="gpt-4o", api_key="k", base_url="http://127.0.0.1:1/v1")'
TEAM = """coder_agent = AssistantAgent("coder_agent", client, system_message="You write code.")
reviewer_agent = AssistantAgent("reviewer_agent", client, system_message="You review code.")
"""
DUO = "RoundRobinGroupChat([coder_agent, reviewer_agent])"


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        yield running


def agents(server: FakeOpenAI, **options: Any) -> list[Any]:
    from autogen_agentchat.agents import AssistantAgent

    client = client_for(server)
    prompts = {"writer": WRITER, "critic": CRITIC}
    return [
        AssistantAgent(name, client, system_message=text, description=f"the {name}", **options)
        for name, text in prompts.items()
    ]


def test_a_single_agent_is_an_agent(server: FakeOpenAI) -> None:
    writer = agents(server)[0]
    done = rollout(wrap_agent(writer), HELLO)
    assert (done.output, done.speakers) == ("hello", ["writer"])


def test_a_selectors_own_question_is_the_teams(server: FakeOpenAI) -> None:
    from autogen_agentchat.teams import SelectorGroupChat

    turns = iter(["writer", "critic"] * 9)
    server.reply(lambda body: next(turns) if "Read the following" in str(body) else chat_model(body))
    team = SelectorGroupChat(agents(server), client_for(server), max_turns=2, allow_repeated_speaker=True)
    done = rollout(wrap_agent(team, name="panel"), HELLO)
    assert done.speakers == ["panel", "writer", "panel", "critic"]
    assert done.calls[0].call is not None and "the critic" in str(done.calls[0].call.messages[0])
    assert done.calls[0].call.messages[0]["role"] == "system"


def choosing(body: dict[str, Any]) -> Any:
    """The selector takes whoever is said to speak now, else the first; members repeat what they are told."""
    text = str(body["messages"])
    if "Read the following conversation" not in text:
        return chat_model(body)
    return "critic" if "critic: speaks now" in text else "writer"


def test_the_selectors_prompt_and_the_descriptions_are_a_prompt_site_of_the_team(server: FakeOpenAI) -> None:
    from autogen_agentchat.teams import SelectorGroupChat

    server.reply(choosing)
    team = SelectorGroupChat(agents(server), client_for(server), max_turns=2, allow_repeated_speaker=True, name="panel")
    agent, asked = wrap_agent(team), [question(text) for text in ("one", "two words", "three", "four", "five", "six")]
    done = rollouts(agent, asked)
    assert {tuple(each.speakers) for each in done} == {("panel", "writer", "panel", "writer")}
    report = discover_sites(
        [ObservedCall(f"t{i}", asked[i], step.call) for i, each in enumerate(done) for step in each.calls if step.call]
    )
    site = next(site for site in report.sites if site.agent == "panel")
    assert site.coverage == 1.0
    assert "You are in a role play game" in site.template and "critic: the critic" in site.template
    policy = Policy().with_prompt(site, site.template.replace("critic: the critic", "critic: speaks now"))
    steered = rollout(agent, HELLO, policy)
    assert steered.speakers == ["panel", "critic", "panel", "critic"] and steered.output == "hello"
    assert [bool(step.steered_sites) for step in steered.calls] == [True, False, True, False]


def test_a_swarm_hands_over(server: FakeOpenAI) -> None:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.teams import Swarm

    writer = AssistantAgent("writer", client_for(server), system_message=WRITER, handoffs=["critic"])
    done = rollout(wrap_agent(Swarm([writer, agents(server)[1]], max_turns=2)), HELLO)
    assert done.speakers == ["writer", "critic"] and done.output == "hello"


def test_a_graph_flow_runs_its_nodes(server: FakeOpenAI) -> None:
    from autogen_agentchat.teams import DiGraphBuilder, GraphFlow

    writer, critic = agents(server)
    graph = DiGraphBuilder().add_node(writer).add_node(critic).add_edge(writer, critic).build()
    done = rollout(wrap_agent(GraphFlow([writer, critic], graph=graph)), HELLO)
    assert done.speakers == ["writer", "critic"] and done.output == "hello"


def test_magentic_one_asks_as_the_team(server: FakeOpenAI) -> None:
    from autogen_agentchat.teams import MagenticOneGroupChat

    team = MagenticOneGroupChat(agents(server), client_for(server), max_turns=1)
    [done] = rollouts(wrap_agent(team, name="magentic"), [HELLO])
    assert done.speakers and set(done.speakers) <= {"magentic", "writer", "critic"}
    assert done.speakers[0] == "magentic"


def test_members_of_teams_within_teams_are_found(server: FakeOpenAI) -> None:
    from autogen_agentchat.agents import SocietyOfMindAgent
    from autogen_agentchat.teams import RoundRobinGroupChat

    inner = SocietyOfMindAgent("society", RoundRobinGroupChat(agents(server), max_turns=2), client_for(server))
    assert wrap_agent(RoundRobinGroupChat([inner], max_turns=1)).adapter.members() == ["society", "writer", "critic"]


def test_an_agent_behind_a_filter_speaks_by_the_filters_name(server: FakeOpenAI) -> None:
    from autogen_agentchat.agents import MessageFilterAgent, MessageFilterConfig, PerSourceFilter
    from autogen_agentchat.teams import RoundRobinGroupChat

    first = MessageFilterConfig(per_source=[PerSourceFilter(source="user", position="first", count=1)])
    sieve = MessageFilterAgent("sieve", agents(server)[0], first)
    agent = wrap_agent(RoundRobinGroupChat([sieve], max_turns=1))
    assert agent.adapter.members() == ["sieve"] and rollout(agent, HELLO).speakers == ["sieve"]


def test_a_team_within_a_team_speaks_by_its_agents(server: FakeOpenAI) -> None:
    from autogen_agentchat.teams import RoundRobinGroupChat

    inner = RoundRobinGroupChat(agents(server), max_turns=2, name="pair")
    agent = wrap_agent(RoundRobinGroupChat([inner], max_turns=1))
    done = rollouts(agent, [HELLO, question("again")])
    assert [(each.output, each.speakers) for each in done] == [(x, ["writer", "critic"]) for x in ("hello", "again")]


def test_the_users_own_team_is_left_as_it_was(server: FakeOpenAI) -> None:
    team = AutoGenCase().team(server)
    agent = wrap_agent(team)
    rollouts(agent, [HELLO] * 3)
    assert agent.adapter.max_concurrency is None and not agent.adapter.health()
    assert (
        asyncio.run(team.save_state())["agent_states"]
        == asyncio.run(AutoGenCase().team(server).save_state())["agent_states"]
    )


def test_tools_of_a_copy_still_see_their_module(server: FakeOpenAI) -> None:
    copied = wrap_agent(AutoGenCase().team(server, tool=uses_its_module)).adapter.fresh_copy()
    assert copied._participants[0]._tools[0]._func is uses_its_module


def uses_its_module(word: str) -> str:
    """Needs a name of this file."""
    return FILE[:1] + word


def test_what_cannot_be_copied_runs_one_at_a_time_and_says_so(server: FakeOpenAI) -> None:
    team = AutoGenCase().team(server)
    team._participants[0].telephone = (number for number in range(3))
    agent = wrap_agent(team)
    assert agent.adapter.max_concurrency == 1
    assert "cannot be copied" in agent.adapter.health()[0] and "one at a time" in agent.adapter.health()[0]
    done = rollouts(agent, [HELLO, question("again")])
    assert [(each.output, each.error) for each in done] == [("hello", None), ("again", None)]


def test_a_factory_makes_one_for_each_rollout(server: FakeOpenAI) -> None:
    made: list[Any] = []

    def create_team() -> Any:
        made.append(AutoGenCase().team(server))
        return made[-1]

    agent = wrap_agent(create_team)
    num_looked_at = len(made)
    assert [done.output for done in rollouts(agent, [HELLO] * 4)] == ["hello"] * 4
    assert len(made) == num_looked_at + 4 and agent.adapter.name == "autogen"


@pytest.mark.parametrize(
    "body",
    [
        f"{CLIENT}\n{TEAM}team = {DUO}",
        "def create_team():\n" + indent(f"{CLIENT}\n{TEAM}return {DUO}", "    "),
        "async def team():\n" + indent(f"{CLIENT}\n{TEAM}return {DUO}", "    "),
    ],
    ids=["object", "factory", "async factory"],
)
def test_the_published_configuration_finds_the_team(tmp_path: Path, body: str) -> None:
    (tmp_path / "my_autogen_agent.py").write_text(FILE.format(body=body))
    targets = ["coder_agent", "reviewer_agent"]
    section = {"type": "autogen", "path": str(tmp_path / "my_autogen_agent.py"), "target_agents": targets}
    loaded = load_agent(config_from({"agent": section})).agent
    assert loaded.adapter.name == "autogen" and loaded.adapter.members() == targets


def test_without_the_span_an_agents_own_turn_names_the_speaker(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_agent(lambda x: x)
    for name in NAMING:  # as if AutoGen had never named anybody
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "trace_invoke_agent_span", module.trace_invoke_agent_span.__wrapped__.__wrapped__)
    monkeypatch.setattr(watching, "_missing", {})
    autogen_hooks.watch_agents(object())
    agent = wrap_agent(AutoGenCase().team(server))
    assert rollout(agent, HELLO).speakers == ["writer", "critic"]
    assert "has no trace_invoke_agent_span" in agent.adapter.health()[0]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_clients_cache_does_not_answer_an_optimised_agent(server: FakeOpenAI, is_stream: bool) -> None:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.cache import ChatCompletionCache

    client = ChatCompletionCache(client_for(server))

    async def ask(question: str) -> str:
        writer = AssistantAgent("writer", client, system_message=WRITER, model_client_stream=is_stream)
        return (await writer.run(task=question)).messages[-1].content  # type: ignore[union-attr]

    async def say() -> list[str]:
        plain = wrap_agent(ask)
        loud = plain.steered(Policy().with_prompt(PromptSite("w", "writer", "system", WRITER), "Shout."))
        return [await agent(HELLO) for agent in (plain, loud, plain, loud)]

    assert asyncio.run(say()) == ["hello", "LOUD HELLO"] * 2 and len(server.requests) == 3


@pytest.mark.parametrize("name", ["create", "create_stream"])
def test_canary_clients_answer_from_caches_there(name: str) -> None:
    from autogen_ext.models.cache import ChatCompletionCache

    assert hasattr(getattr(ChatCompletionCache, name), "__wrapped__")


def test_the_first_agent_that_is_wrapped_knows_what_is_missing(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autogen_agentchat.agents import AssistantAgent

    class Own(AssistantAgent):
        async def on_messages_stream(self, *args: Any, **kwargs: Any) -> Any:
            async for item in super().on_messages_stream(*args, **kwargs):
                yield item

    monkeypatch.setattr(watching, "_installed", set())
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr(watching, "HOOKS", {NAMING[0]: "autogen_hooks:no_such_hook"})
    wrap_agent(Own("writer", client_for(server), system_message=WRITER))
    assert hasattr(Own.on_messages_stream, "__agentlightning_named__")


def test_without_any_hook_the_instructions_name_the_speaker(
    server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from autogen_agentchat.agents import AssistantAgent

    wrap_agent(lambda x: x)
    for name in NAMING:
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "trace_invoke_agent_span", module.trace_invoke_agent_span.__wrapped__.__wrapped__)
    turn: Any = AssistantAgent.on_messages_stream
    monkeypatch.setattr(AssistantAgent, "on_messages_stream", getattr(turn, "__wrapped__", turn))
    monkeypatch.setattr("agentlightning.adapters.autogen.name_turns", lambda kind: None)
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr(fingerprint, "_known", {})
    autogen_hooks.watch_agents(object())
    agent = wrap_agent(AutoGenCase().team(server))
    assert rollout(agent, HELLO).speakers == ["writer", "critic"]
    assert agent.adapter.health()[-1] == "where that fails, its agents are told apart by their instructions."


@pytest.mark.parametrize("module", NAMING)
def test_canary_the_turns_of_agents_are_named(module: str) -> None:
    assert hasattr(importlib.import_module(module), "trace_invoke_agent_span")
    assert not watching.missing("autogen")


def test_structures_say_by_which_rule_the_next_one_speaks(server: FakeOpenAI) -> None:
    from autogen_agentchat.agents import AssistantAgent, SocietyOfMindAgent
    from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, RoundRobinGroupChat, SelectorGroupChat, Swarm

    def links(team: Any) -> list[tuple[str, str, str]]:
        return [(each.source, each.how, each.target) for each in wrap_agent(team).adapter.structure().links]

    writer, critic = agents(server)
    handing = AssistantAgent("writer", client_for(server), system_message=WRITER, handoffs=["critic"])
    graph = DiGraphBuilder().add_node(writer).add_node(critic).add_edge(writer, critic, condition="done").build()
    society = SocietyOfMindAgent("society", RoundRobinGroupChat([writer, critic]), client_for(server))
    assert links(RoundRobinGroupChat([writer, critic])) == [("writer", "then", "critic"), ("critic", "then", "writer")]
    assert links(Swarm([handing, critic])) == [("writer", "may hand over to", "critic")]
    assert links(GraphFlow([writer, critic], graph)) == [("writer", "if done", "critic"), ("critic", "then", "end")]
    selector = SelectorGroupChat([writer, critic], client_for(server), name="panel")
    assert links(selector) == [("panel", "chooses", "writer"), ("panel", "chooses", "critic")]
    assert links(society)[0] == ("society", "speaks for", "RoundRobinGroupChat")
    [first, second] = wrap_agent(selector).adapter.structure().members
    assert (first.name, first.instructions, second.description) == ("writer", WRITER, "the critic")


@pytest.mark.parametrize("name", ["_system_messages", "_handoffs", "_workbench"])
def test_canary_agents_show_how_they_are_built(server: FakeOpenAI, name: str) -> None:
    assert hasattr(agents(server)[0], name)


def test_canary_agents_around_others_show_them(server: FakeOpenAI) -> None:
    from autogen_agentchat.agents import MessageFilterAgent, MessageFilterConfig, SocietyOfMindAgent
    from autogen_agentchat.teams import DiGraphBuilder, GraphFlow, RoundRobinGroupChat

    [writer, _] = agents(server)
    team = RoundRobinGroupChat([writer])
    assert SocietyOfMindAgent("s", team, client_for(server))._team is team
    assert MessageFilterAgent("f", writer, MessageFilterConfig(per_source=[]))._wrapped_agent is writer
    assert GraphFlow([writer], DiGraphBuilder().add_node(writer).build())._graph.nodes["writer"].edges == []


@pytest.mark.parametrize("name", ["_participants", "_runtime", "_initialized"])
def test_canary_teams_have_what_copies_need(server: FakeOpenAI, name: str) -> None:
    assert hasattr(AutoGenCase().team(server), name)
