"""Tools of plain-function agents: found by schema, recorded without a code change, and kept from doing harm."""

from __future__ import annotations

import types
from typing import Any

import pytest

import agentlightning
from agentlightning import wrap_agent
from agentlightning.adapters.module_tools import writing_tools
from agentlightning.errors import AgentError, ConfigError
from agentlightning.interception.recorder import Recorder
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.tools import Tape, ToolModes

SOURCE = """
sent = []
SCHEMAS = [{"type": "function", "function": {"name": "send_email", "description": "Send an email"}},
           {"type": "function", "function": {"name": "get_weather", "description": "Weather of a city"}}]

def send_email(to, text=""):
    sent.append(to)
    return f"sent to {to}"

def get_weather(city):
    return {"city": city, "sky": "grey"}

TABLE = {"send_email": send_email, "get_weather": get_weather}

def agent(question):
    return TABLE["send_email"](question), get_weather(city="Oslo")
"""


def module() -> Any:
    made = types.ModuleType("an_agent")
    exec(SOURCE, made.__dict__)
    return made


def run(agent: Any, modes: ToolModes) -> tuple[Any, list[Any]]:
    recorder = Recorder("r-1")
    agent.prepare()
    with entered(Scope("agent", recorder=recorder, tools=modes)):
        result = agent.adapter.invoke("ann@example.org")
    return result, recorder.steps()


def test_tools_become_steps_through_tables_and_globals() -> None:
    made = module()
    result, steps = run(wrap_agent(made.agent), ToolModes())
    assert result == ("sent to ann@example.org", {"city": "Oslo", "sky": "grey"})
    assert [(s.kind, s.name, s.arguments, s.result) for s in steps] == [
        ("tool", "send_email", {"to": "ann@example.org"}, "sent to ann@example.org"),
        ("tool", "get_weather", {"city": "Oslo"}, {"city": "Oslo", "sky": "grey"}),
    ]


def test_outside_a_rollout_the_tools_are_themselves() -> None:
    made = module()
    agent = wrap_agent(made.agent, tools={"send_email": "stub"})
    agent.prepare()
    agent("bob@example.org")
    assert made.sent == ["bob@example.org"]


def test_a_stub_never_runs() -> None:
    made = module()
    agent = wrap_agent(made.agent, tools={"send_email": {"mode": "stub", "returns": "would send"}})
    result, _ = run(agent, ToolModes(agent.tool_modes))
    assert made.sent == [] and result[0] == "would send"


def test_recording_runs_once_for_the_same_arguments() -> None:
    made = module()
    agent = wrap_agent(made.agent, tools={"send_email": "record"})
    modes = ToolModes(agent.tool_modes, Tape())
    assert [run(agent, modes)[0][0] for _ in range(3)] == ["sent to ann@example.org"] * 3
    assert made.sent == ["ann@example.org"]


def test_a_mode_for_a_tool_that_is_not_there_names_the_nearest() -> None:
    agent = wrap_agent(module().agent, tools={"send_mail": "stub"})
    with pytest.raises(AgentError, match=r"no function 'send_mail'.*Did you mean 'send_email'"):
        agent.prepare()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown mode 'stubb'. Did you mean 'stub'"):
        wrap_agent(module().agent, tools={"send_email": "stubb"})


def test_writing_tools_are_recognised_by_name_and_description() -> None:
    tools = {
        "send_email": "",
        "lookup_order": "Look up an order's status",
        "get_weather": "",
        "calendar": "Create an event in the calendar",
        "search": "Search documents",
        "cancel_order": "",
    }
    assert writing_tools(tools) == ["send_email", "calendar", "cancel_order"]


class Shop:
    """Tools that no module's globals hold."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    @agentlightning.step(kind="tool")
    def send_parcel(self, to: str) -> str:
        self.sent.append(to)
        return f"sent to {to}"


def test_a_marked_tool_can_be_given_a_mode_wherever_it_is() -> None:
    shop = Shop()
    agent = wrap_agent(lambda question: shop.send_parcel(question), tools={"send_parcel": "stub"})
    result, [step] = run(agent, ToolModes(agent.tool_modes))
    assert result == "ok (stubbed)" and shop.sent == [] and step.is_simulated
