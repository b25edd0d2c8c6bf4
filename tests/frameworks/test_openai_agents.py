"""The OpenAI Agents SDK: the private names the adapter leans on, and what happens without them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.adapters.cases.openai_agents_case import OpenAIAgentsCase
from tests.contract.adapters.model import chat_model, question
from tests.contract.adapters.rollouts import rollout
from tests.servers import FakeOpenAI

from agentlightning import wrap_agent
from agentlightning.adapters import openai_agents_hooks, watching


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
