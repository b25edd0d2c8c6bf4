"""The OpenAI Agents SDK: the private names the adapter leans on, and what happens without them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.adapters.cases.openai_agents_case import OpenAIAgentsCase
from tests.contract.adapters.model import CRITIC, WRITER, chat_model, question, responses_model
from tests.contract.adapters.rollouts import rollout, rollouts
from tests.servers import FakeOpenAI

from agentlightning import wrap_agent
from agentlightning.adapters import openai_agents_hooks, watching
from agentlightning.interception import fingerprint
from agentlightning.interception.tools import parse_modes


def test_canary_runs_prepare_the_models_input_there() -> None:
    from agents.run_internal import run_loop

    wrap_agent(lambda x: x)
    assert hasattr(run_loop.maybe_filter_model_input, "__wrapped__")
    assert watching.missing("openai_agents") == []


def test_canary_tools_have_the_inner_invoker() -> None:
    from agents import function_tool

    tool: Any = function_tool(chat_model, strict_mode=False, name_override="x")
    assert hasattr(tool.on_invoke_tool, "_invoke_tool_impl")


def test_canary_handoffs_show_their_agent() -> None:
    from agents import Agent, handoff

    critic = Agent(name="critic")
    assert wrap_agent(Agent(name="writer", handoffs=[handoff(critic)])).adapter.members() == ["writer", "critic"]


def test_an_agent_used_as_a_tool_is_a_member_and_a_step() -> None:
    with FakeOpenAI(delegating) as server:
        agent = wrap_agent(boss_of(server))
        done = rollouts(agent, [question("one"), question("two")])
        stubbed = rollout(wrap_agent(boss_of(server), tools={"ask_helper": "stub"}), question("one"))
    assert agent.adapter.members() == ["boss", "helper"]
    assert [(each.output, each.speakers) for each in done] == [(x, ["boss", "helper", "boss"]) for x in ("one", "two")]
    assert [(step.name, step.agent, step.result) for step in done[0].tools] == [("ask_helper", "boss", "one")]
    assert stubbed.speakers == ["boss", "boss"] and stubbed.tools[0].result == "ok (stubbed)"


def boss_of(server: FakeOpenAI) -> Any:
    import openai
    from agents import Agent, OpenAIChatCompletionsModel

    model = OpenAIChatCompletionsModel("m", openai.AsyncOpenAI(api_key="k", base_url=server.base_url))
    helper = Agent(name="helper", instructions=WRITER, model=model)
    return Agent(name="boss", instructions=CRITIC, model=model, tools=[helper.as_tool("ask_helper", "Ask it.")])


def delegating(body: dict[str, Any]) -> Any:
    """Whoever can ask the helper does so, with what it was asked."""
    if not body.get("tools") or any(message["role"] == "tool" for message in body["messages"]):
        return chat_model(body)
    function = {"name": "ask_helper", "arguments": json.dumps({"input": body["messages"][-1]["content"]})}
    return {"content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}


def shelled(body: dict[str, Any]) -> Any:
    """First a command for the shell, then what the shell said."""
    outputs = [item for item in body["input"] if item.get("type") == "shell_call_output"]
    if outputs:
        return responses_model({**body, "tools": [], "input": question(outputs[0]["output"][0]["stdout"])})
    action = {"type": "exec", "commands": ["rm -r data"], "timeout_ms": None, "max_output_length": None}
    call = {"type": "shell_call", "id": "s1", "call_id": "c1", "status": "completed", "action": action}
    whole = responses_model({**body, "tools": []})
    return {**whole, "output": [call]}


def test_a_shell_that_runs_here_is_a_step_and_can_be_stubbed() -> None:
    import openai
    from agents import Agent, OpenAIResponsesModel, ShellTool

    commands: list[str] = []

    def run(request: Any) -> str:
        commands.extend(request.data.action.commands)
        return "done"

    with FakeOpenAI() as server:
        server.route("/v1/responses", shelled)
        model = OpenAIResponsesModel("m", openai.AsyncOpenAI(api_key="k", base_url=server.base_url))
        agent = Agent(name="admin", instructions=WRITER, model=model, tools=[ShellTool(executor=run)])
        stubbed = rollout(wrap_agent(agent, tools={"shell": "stub"}), question("clean up"))
        assert commands == [] and stubbed.output == "ok (stubbed)"
        done = rollout(wrap_agent(agent), question("clean up"))
    assert commands == ["rm -r data"] and done.output == "done"
    assert (done.tools[0].name, done.tools[0].arguments["action"]["commands"]) == ("shell", ["rm -r data"])


def test_without_hook_and_stack_the_instructions_name_the_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.run_internal import run_loop

    wrap_agent(lambda x: x)
    monkeypatch.setattr(run_loop, "maybe_filter_model_input", run_loop.maybe_filter_model_input.__wrapped__)
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr(fingerprint, "_known", {})
    openai_agents_hooks.watch_runs(object())
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])
    with FakeOpenAI(chat_model) as server:
        agent = wrap_agent(OpenAIAgentsCase().team(server))
        assert rollout(agent, question("hello")).speakers == ["writer", "critic"]
    assert agent.adapter.health()[-1] == "where that fails, its agents are told apart by their instructions."


def test_the_structure_shows_handoffs_and_agents_used_as_tools() -> None:
    from agents import Agent

    critic = Agent(name="critic", handoff_description="judges")
    helper = Agent(name="helper", instructions=WRITER)
    writer = Agent(name="writer", instructions=WRITER, handoffs=[critic], tools=[helper.as_tool("ask", "Ask.")])
    built = wrap_agent(writer).adapter.structure()
    assert [(each.source, each.how, each.target) for each in built.links] == [
        ("writer", "may hand over to", "critic"),
        ("writer", "uses", "helper"),
    ]
    assert [(each.name, each.instructions, each.description, each.tools) for each in built.members] == [
        ("writer", WRITER, "", ["ask"]),
        ("critic", "", "judges", []),
        ("helper", WRITER, "", []),
    ]


def test_canary_agents_hand_out_tools_that_record_themselves() -> None:
    from agents.agent import AgentBase

    wrap_agent(lambda x: x)
    assert hasattr(AgentBase.get_all_tools, "__wrapped__")


def test_tools_of_an_mcp_server_are_recorded_and_take_modes(tmp_path: Path) -> None:
    import openai
    from agents import Agent, OpenAIChatCompletionsModel
    from agents.mcp import MCPServerStdio

    log = tmp_path / "looked_up"
    log.touch()
    program = [str(Path(__file__).with_name("mcp_books.py")), str(log)]

    async def ask(text: str) -> str:
        async with MCPServerStdio(params={"command": sys.executable, "args": program}, name="books") as books:
            reader = Agent(name="reader", instructions=WRITER, model=model, mcp_servers=[books])
            wrapped = wrap_agent(reader, tools={"lookup": "stub"})
            wrapped.prepare()
            assert "what MCP server 'books' offers is known only while it runs" in wrapped.adapter.health()[0]
            return await wrapped(text)

    with FakeOpenAI(chat_model) as server:
        model = OpenAIChatCompletionsModel("m", openai.AsyncOpenAI(api_key="k", base_url=server.base_url))
        done = rollout(wrap_agent(ask), question("tool moon"))
        stubbing = wrap_agent(ask)
        stubbing.tool_modes = parse_modes({"lookup": "stub"})
        stubbing.prepare = lambda: None  # a function knows only the tools in its module, and refuses others
        stubbed = rollout(stubbing, question("tool sun"))
    assert [(step.name, step.agent, step.arguments) for step in done.tools] == [("lookup", "reader", {"word": "moon"})]
    assert "meaning of moon" in str(done.tools[0].result) and stubbed.output == "ok (stubbed)"
    assert log.read_text() == "moon\n"


def test_canary_tools_show_the_agent_behind_them() -> None:
    from agents import Agent

    helper = Agent(name="helper")
    assert helper.as_tool("ask", "Ask.")._agent_instance is helper


def test_without_the_hook_the_call_stack_names_the_speaker(monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.run_internal import run_loop

    wrap_agent(lambda x: x)
    monkeypatch.setattr(run_loop, "maybe_filter_model_input", run_loop.maybe_filter_model_input.__wrapped__)
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])
    openai_agents_hooks.watch_runs(object())
    with FakeOpenAI(chat_model) as server:
        agent = wrap_agent(OpenAIAgentsCase().team(server))
        assert rollout(agent, question("hello")).speakers == ["writer", "critic"]
    assert "has no maybe_filter_model_input" in agent.adapter.health()[0]
