"""AutoGen's tools beyond plain functions: workbenches, agents and teams as tools, code, and the names leaned on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.contract.adapters.cases.autogen_case import client_for
from tests.contract.adapters.model import CRITIC, WRITER, chat_model, lookup, question
from tests.contract.adapters.rollouts import Rollout, rollout, rollouts
from tests.servers import FakeOpenAI

from agentlightning import wrap_agent
from agentlightning.errors import AgentError

MOON = question("tool moon")


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        yield running


def assistant(server: FakeOpenAI, name: str, text: str, **options: Any) -> Any:
    from autogen_agentchat.agents import AssistantAgent

    return AssistantAgent(name, client_for(server), system_message=text, reflect_on_tool_use=True, **options)


def shown(done: Rollout) -> list[tuple[Any, ...]]:
    return [(step.name, step.agent, step.arguments, step.result) for step in done.tools]


@pytest.mark.parametrize("kind", ["StaticWorkbench", "StaticStreamWorkbench"])
def test_the_tools_of_a_workbench_are_known_recorded_and_stubbed(server: FakeOpenAI, kind: str) -> None:
    from autogen_core import tools

    bench = getattr(tools, kind)([tools.FunctionTool(lookup, description="Look a word up.")])
    writer = assistant(server, "writer", WRITER, workbench=bench)
    assert wrap_agent(writer).adapter.tools() == {"lookup": "Look a word up."}
    assert shown(rollout(wrap_agent(writer), MOON)) == [("lookup", "writer", {"word": "moon"}, "meaning of moon")]
    stubbed = rollout(wrap_agent(writer, tools={"lookup": {"mode": "stub", "returns": "nothing"}}), MOON)
    assert stubbed.output == "nothing"


def library(server: FakeOpenAI) -> Any:
    """A workbench of the user's own, which tells its tools only when asked, as a server does."""
    from autogen_core.tools import TextResultContent, ToolResult, Workbench

    class Library(Workbench):
        runs: list[str] = []  # noqa: RUF012

        async def list_tools(self) -> Any:
            parameters = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
            return [{"name": "find", "description": "Find a word.", "parameters": parameters}]

        async def call_tool(self, name: str, arguments: Any = None, *args: Any, **kwargs: Any) -> Any:
            self.runs.append(arguments["word"])
            lost = arguments["word"] == "lost"
            text = "no such book" if lost else f"found {arguments['word']}"
            return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=lost)

        async def start(self) -> None: ...
        async def stop(self) -> None: ...
        async def reset(self) -> None: ...
        async def load_state(self, state: Mapping[str, Any]) -> None: ...

        async def save_state(self) -> Mapping[str, Any]:
            return {}

    return Library()


def test_a_workbench_of_ones_own_is_recorded_and_stubbed(server: FakeOpenAI) -> None:
    bench = library(server)
    writer = assistant(server, "writer", WRITER, workbench=bench)
    assert shown(rollout(wrap_agent(writer), MOON)) == [("find", "writer", {"word": "moon"}, "found moon")]
    lost = rollout(wrap_agent(writer), question("tool lost"))
    assert lost.tools[0].error == "ToolFailed: no such book" and lost.output == "no such book"
    agent = wrap_agent(writer, tools={"find": {"mode": "stub", "returns": "stubbed"}})
    assert rollout(agent, MOON).output == "stubbed" and bench.runs == ["moon", "lost"]
    assert agent.adapter.health() == [
        "what a Library offers is known only while it runs, so a misspelt mode for a tool goes unnoticed."
    ]


def delegating(body: dict[str, Any]) -> Any:
    """Whoever can ask the helper does so, with what it was asked."""
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    if "helper" not in names or any(message["role"] == "tool" for message in body["messages"]):
        return chat_model(body)
    task = json.dumps({"task": body["messages"][-1]["content"]})
    function = {"name": "helper", "arguments": task}
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def helper(server: FakeOpenAI, kind: str) -> Any:
    from autogen_agentchat.teams import RoundRobinGroupChat
    from autogen_agentchat.tools import AgentTool, TeamTool

    if kind == "agent":
        return AgentTool(assistant(server, "helper", WRITER, description="helps"))
    pair = [assistant(server, "first", WRITER), assistant(server, "second", CRITIC)]
    return TeamTool(RoundRobinGroupChat(pair, max_turns=2), name="helper", description="help")


@pytest.mark.parametrize(("kind", "inner"), [("agent", ["helper"]), ("team", ["first", "second"])])
def test_agents_used_as_tools_are_members_and_start_anew_in_each_rollout(
    server: FakeOpenAI, kind: str, inner: list[str]
) -> None:
    server.reply(delegating)
    agent = wrap_agent(assistant(server, "boss", CRITIC, tools=[helper(server, kind)]))
    assert agent.adapter.members() == ["boss", *inner] and agent.adapter.health() == []
    asked = ["one", "two", "three", "four"]
    done = rollouts(agent, [question(text) for text in asked])
    assert [each.output for each in done] == asked
    assert [each.speakers for each in done] == [["boss", *inner, "boss"]] * 4
    for text, each in zip(asked, done, strict=True):
        [(name, speaker, arguments, result)] = shown(each)
        assert (name, speaker, arguments) == ("helper", "boss", {"task": question(text)}) and text in result
        others = [question(other) for other in asked if other != text]
        assert not any(other in str(each.calls) for other in others)


@pytest.mark.parametrize("kind", ["agent", "team"])
def test_an_agent_used_as_a_tool_can_be_stubbed(server: FakeOpenAI, kind: str) -> None:
    server.reply(delegating)
    boss = assistant(server, "boss", CRITIC, tools=[helper(server, kind)])
    done = rollout(wrap_agent(boss, tools={"helper": {"mode": "stub", "returns": "no help"}}), MOON)
    assert done.speakers == ["boss", "boss"] and done.tools[0].is_simulated
    assert done.calls[-1].call is not None and "no help" in str(done.calls[-1].call.messages)


def test_one_that_cannot_be_copied_forgets_its_helpers_talk_between_rollouts(server: FakeOpenAI) -> None:
    server.reply(delegating)
    boss = assistant(server, "boss", CRITIC, tools=[helper(server, "agent")])
    boss.telephone = (number for number in range(3))
    agent = wrap_agent(boss)
    assert agent.adapter.max_concurrency == 1
    one, two = rollouts(agent, [question("one"), question("two")])
    assert (one.output, two.output) == ("one", "two") and question("one") not in str(two.calls)


def test_code_is_a_tool_with_a_warning_and_can_be_stubbed(server: FakeOpenAI, tmp_path: Path) -> None:
    from autogen_agentchat.agents import CodeExecutorAgent
    from autogen_ext.code_executors.local import LocalCommandLineCodeExecutor

    server.reply("```python\nopen('made.txt', 'w').write('x'); print('hi')\n```")
    executor = LocalCommandLineCodeExecutor(work_dir=tmp_path)
    coder = CodeExecutorAgent("coder", executor, model_client=client_for(server))
    stubbed = wrap_agent(coder, tools={"execute_code_block": "stub"})
    assert rollout(stubbed, "Write.").tools[0].result == "ok (stubbed)" and not (tmp_path / "made.txt").exists()
    agent = wrap_agent(coder)
    assert agent.writing_tools() == ["execute_code_block"]
    [step] = rollout(agent, "Write.").tools
    assert step.result == {"exit_code": 0, "output": "hi\n"} and "made.txt" in step.arguments["code_blocks"][0]["code"]
    assert (tmp_path / "made.txt").exists()


def test_a_mode_for_a_tool_no_static_workbench_holds_is_refused(server: FakeOpenAI) -> None:
    writer = assistant(server, "writer", WRITER, tools=[lookup])
    with pytest.raises(AgentError, match="Did you mean 'lookup'"):
        wrap_agent(writer, tools={"lookupp": "stub"}).prepare()


@pytest.mark.parametrize(("kind", "inner"), [("agent", "_task_runner"), ("team", "_task_runner")])
def test_canary_tools_show_the_agents_behind_them(server: FakeOpenAI, kind: str, inner: str) -> None:
    assert hasattr(helper(server, kind), inner)


def test_canary_agents_show_their_workbenches(server: FakeOpenAI) -> None:
    [bench] = assistant(server, "writer", WRITER, tools=[lookup])._workbench
    assert [tool.name for tool in bench._tools] == ["lookup"]


def test_canary_tools_and_streams_pass_the_recorded_methods() -> None:
    from autogen_agentchat.agents import CodeExecutorAgent
    from autogen_core.tools import BaseStreamTool, BaseTool

    wrap_agent(lambda x: x)
    recorded = (BaseTool.run_json, BaseStreamTool.run_json_stream, CodeExecutorAgent.execute_code_block)
    assert all(hasattr(method, "__wrapped__") for method in recorded)
