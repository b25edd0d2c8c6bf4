"""Listening to CrewAI: who is speaking, which tools ran.

The public before-LLM hook runs in the thread of the call and knows the agent. Agents are called by their role as it was
written: a role with placeholders is filled anew for every task.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import wraps
from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.adapters.call_stack import speaker_on_stack
from agentlightning.adapters.tool_calls import use_tool, use_tool_async
from agentlightning.adapters.watching import report_missing
from agentlightning.interception.scope import ask_for_speaker, set_speaker


def role_of(agent: Any) -> str:
    """The agent's role before its placeholders were filled."""
    return str(getattr(agent, "_original_role", None) or agent.role).strip()


def watch_calls(module: Any) -> None:
    """Note the agent whose model or tool call comes next."""
    register = getattr(module, "register_before_llm_call_hook", None)
    if register is None:
        report_missing("crewai", "register_before_llm_call_hook", "agents are told apart by the call stack.")
        ask_for_speaker(_speaker_on_stack)
        return
    register(_note_speaker)
    if (before_tool := getattr(module, "register_before_tool_call_hook", None)) is not None:
        before_tool(_note_speaker)  # tools run in other threads than the call that asked for them


def _note_speaker(context: Any) -> None:
    """Gives nothing back: False would stop the call."""
    set_speaker(role_of(context.agent) if hasattr(context.agent, "role") else None)


def _speaker_on_stack() -> str | None:
    kinds = tuple(loaded("crewai.agents.agent_builder.base_agent.BaseAgent"))
    return speaker_on_stack(kinds, variables=("self", "agent"), name_of=role_of)


def watch_tools(module: Any) -> None:
    """Record tools called by their objects (native function calling) and through CrewAI's own text format."""
    if not (kinds := _tool_kinds(module)):
        report_missing("crewai", "BaseTool", "calls of its tools are not recorded, and their modes do nothing.")
    for kind in kinds:
        for name in ("run", "invoke"):
            if name in vars(kind):
                setattr(kind, name, _recording(getattr(kind, name)))
        for name in ("arun", "ainvoke"):
            if name in vars(kind):
                setattr(kind, name, _recording_async(getattr(kind, name)))


def _tool_kinds(module: Any) -> list[Any]:
    names = ("BaseTool", "Tool", "CrewStructuredTool")
    return [
        kind for name in names if (kind := vars(module).get(name)) is not None and kind.__module__ == module.__name__
    ]


def _recording(original: Any) -> Any:
    @wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return use_tool(self.name, _arguments(args, kwargs), lambda: original(self, *args, **kwargs))

    return run


def _recording_async(original: Any) -> Any:
    @wraps(original)
    async def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await use_tool_async(self.name, _arguments(args, kwargs), lambda: original(self, *args, **kwargs))

    return run


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """`run(**fields)` and `invoke(fields, config=…)` are the same call."""
    given = kwargs.get("input", args[0] if args else None)
    if isinstance(given, dict):
        return dict(given)
    return {key: value for key, value in kwargs.items() if key != "config"} | ({"input": given} if args else {})
