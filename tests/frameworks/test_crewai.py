"""CrewAI: copies of crews, roles with placeholders, flows, and the names the adapter leans on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.contract.adapters.cases.crewai_case import CrewAICase
from tests.contract.adapters.model import CRITIC, WRITER, chat_model, question
from tests.contract.adapters.rollouts import rollout, rollouts
from tests.servers import FakeOpenAI

from agentlightning import Policy, wrap_agent
from agentlightning.adapters import crewai_hooks, watching
from agentlightning.interception import fingerprint
from agentlightning.interception.sites import ObservedCall, discover_sites

HELLO = question("hello")


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        yield running


def crew_of(server: FakeOpenAI, role: str, description: str) -> Any:
    from crewai import LLM, Agent, Crew, Task

    llm = LLM(model="openai/gpt-4o", api_key="k", base_url=server.base_url)
    agent = Agent(role=role, goal="to repeat", backstory=WRITER, llm=llm)
    return Crew(agents=[agent], tasks=[Task(description=description, expected_output="the same", agent=agent)])


def test_role_goal_and_backstory_are_in_the_system_text(server: FakeOpenAI) -> None:
    call = rollout(wrap_agent(CrewAICase().team(server)), HELLO).calls[0].call
    assert call is not None and call.messages[0]["role"] == "system"
    assert all(text in call.messages[0]["content"] for text in ("writer", "to repeat", WRITER))


def test_a_role_with_a_placeholder_keeps_its_name(server: FakeOpenAI) -> None:
    agent = wrap_agent(crew_of(server, "{language} expert", "Repeat: {question}"))
    tasks = [{"question": HELLO, "language": language} for language in ("French", "Greek")]
    assert agent.adapter.members() == ["{language} expert"]
    assert [done.speakers for done in rollouts(agent, tasks)] == [["{language} expert"]] * 2


def test_the_users_crew_is_left_as_it_was(server: FakeOpenAI) -> None:
    crew = crew_of(server, "writer", "Repeat: {question}")
    agent = wrap_agent(crew)
    assert [done.output for done in rollouts(agent, [HELLO] * 3)] == ["hello"] * 3
    assert crew.tasks[0].output is None and crew.tasks[0].description == "Repeat: {question}"
    assert agent.adapter.max_concurrency is None and agent.adapter.health() == []


def test_text_for_a_crew_without_a_placeholder_is_refused_with_the_reason(server: FakeOpenAI) -> None:
    [refused] = rollouts(wrap_agent(crew_of(server, "writer", "Repeat nothing.")), [HELLO])
    assert "has a placeholder such as {topic}" in str(refused.error)


def test_text_for_a_crew_with_two_placeholders_asks_for_fields(server: FakeOpenAI) -> None:
    [refused] = rollouts(wrap_agent(crew_of(server, "writer", "Repeat {a} and {b}.")), [HELLO])
    assert "it takes a, b" in str(refused.error)


def flow_class(server: FakeOpenAI) -> Any:
    from crewai.flow.flow import Flow, listen, start

    class RepeatFlow(Flow):
        @start()
        def first(self) -> str:
            return self.state["input"]

        @listen(first)
        def then(self, said: str) -> str:
            return crew_of(server, "writer", "Repeat: {question}").kickoff(inputs={"question": said}).raw

    return RepeatFlow


@pytest.mark.parametrize("form", ["class", "instance"])
def test_a_flow_runs_anew_for_each_rollout(server: FakeOpenAI, form: str) -> None:
    kind = flow_class(server)
    agent = wrap_agent(kind if form == "class" else kind())
    done = rollouts(agent, [question("one"), question("two")])
    assert [(each.output, each.speakers, each.error) for each in done] == [
        ("one", ["writer"], None),
        ("two", ["writer"], None),
    ]


def test_a_flow_shows_its_steps(server: FakeOpenAI) -> None:
    built = wrap_agent(flow_class(server)).adapter.structure()
    assert [(each.source, each.target) for each in built.links] == [("start", "first"), ("first", "then")]


def delegating(body: dict[str, Any]) -> Any:
    """A manager hands its task to the writer, and repeats what it hears."""
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    if "delegate_work_to_coworker" not in names or any(message["role"] == "tool" for message in body["messages"]):
        return chat_model(body)
    said = re.findall(r"<q>(.*?)</q>", str(body["messages"]))[-1]
    task = {"task": f"Repeat {question(said)}", "context": "none", "coworker": "writer"}
    function = {"name": "delegate_work_to_coworker", "arguments": json.dumps(task)}
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


@pytest.mark.parametrize("manager", ["Crew Manager", "boss"])
def test_a_hierarchical_crew_speaks_by_its_manager_and_whom_it_asks(server: FakeOpenAI, manager: str) -> None:
    from crewai import LLM, Agent, Crew, Process, Task

    server.reply(delegating)
    llm = LLM(model="openai/gpt-4o", api_key="k", base_url=server.base_url)
    told = {"writer": WRITER, "critic": CRITIC}
    agents = [Agent(role=role, goal="to repeat", backstory=text, llm=llm) for role, text in told.items()]
    boss = Agent(role="boss", goal="to lead", backstory="You lead.", llm=llm, allow_delegation=True)
    managed: Any = {"manager_agent": boss} if manager == "boss" else {"manager_llm": llm}
    tasks = [Task(description="Repeat: {question}", expected_output="the same")]
    agent = wrap_agent(Crew(agents=agents, tasks=tasks, process=Process.hierarchical, **managed))
    done = rollouts(agent, [HELLO, question("bye")])
    assert [(each.output, each.speakers) for each in done] == [
        (text, [manager, "writer", manager]) for text in ("hello", "bye")
    ]
    assert [(step.name, step.agent, step.result) for step in done[0].tools] == [
        ("Delegate work to coworker", manager, "hello")
    ]
    assert {"writer", "critic", manager} == set(agent.adapter.members()) and agent.adapter.health() == []
    built = agent.adapter.structure()
    assert [(each.source, each.how, each.target) for each in built.links] == [
        (manager, "delegates to", "writer"),
        (manager, "delegates to", "critic"),
    ]


def test_role_goal_and_backstory_are_one_prompt_site_of_their_agent(server: FakeOpenAI) -> None:
    agent = wrap_agent(CrewAICase().team(server))
    asked = [question(text) for text in ("one", "two words", "three", "four of them", "five", "six")]
    done = rollouts(agent, asked)
    report = discover_sites(
        [ObservedCall(f"t{i}", asked[i], step.call) for i, each in enumerate(done) for step in each.calls if step.call]
    )
    site = next(site for site in report.sites if site.id == "critic:system")
    assert all(text in site.template for text in ("You are critic", CRITIC, "Your personal goal is: to repeat"))
    policy = Policy().with_prompt(site, site.template.replace("to repeat", "to shout"))
    steered = rollout(agent, HELLO, policy)
    assert steered.output == "LOUD HELLO" and [bool(s.steered_sites) for s in steered.calls] == [False, True]


@pytest.fixture
def unhooked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if CrewAI had no hooks."""
    from crewai import hooks

    wrap_agent(lambda x: x)
    hooks.unregister_before_llm_call_hook(crewai_hooks._note_speaker)
    hooks.unregister_before_tool_call_hook(crewai_hooks._note_speaker)
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr(fingerprint, "_known", {})
    crewai_hooks.watch_calls(object())
    yield
    crewai_hooks.watch_calls(hooks)


def test_without_hooks_the_call_stack_names_the_speaker(server: FakeOpenAI, unhooked: None) -> None:
    agent = wrap_agent(CrewAICase().team(server))
    assert rollout(agent, HELLO).speakers == ["writer", "critic"]
    assert "agents are told apart by the call stack." in agent.adapter.health()[0]


def test_without_hooks_and_stack_the_backstory_names_the_speaker(
    server: FakeOpenAI, unhooked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])
    agent = wrap_agent(CrewAICase().team(server))
    assert rollout(agent, HELLO).speakers == ["writer", "critic"]
    assert agent.adapter.health()[-1] == "where that fails, its agents are told apart by their instructions."


def test_canary_tools_record_themselves() -> None:
    from crewai.tools.base_tool import BaseTool, Tool
    from crewai.tools.structured_tool import CrewStructuredTool

    wrap_agent(lambda x: x)
    for method in (BaseTool.run, Tool.run, CrewStructuredTool.invoke, CrewStructuredTool.ainvoke):
        assert hasattr(method, "__wrapped__")


@pytest.mark.parametrize("name", ["register_before_llm_call_hook", "register_before_tool_call_hook"])
def test_canary_the_hooks_are_there(name: str) -> None:
    import crewai.hooks

    assert hasattr(crewai.hooks, name) and watching.missing("crewai") == []


def test_canary_roles_are_kept_as_written(server: FakeOpenAI) -> None:
    crew = crew_of(server, "{language} expert", "Repeat: {question}")
    crew.agents[0].interpolate_inputs({"language": "French", "question": "x"})
    assert crew.agents[0]._original_role == "{language} expert"
