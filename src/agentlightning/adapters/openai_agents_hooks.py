"""Listening to the OpenAI Agents SDK: who is speaking, which tools ran.

Before each model call the run awaits `maybe_filter_model_input(agent=…)` in its own task; there the speaker is noted.
Tools are handed out by `Agent.get_all_tools`; inside a scope it hands out copies that record themselves.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.adapters.call_stack import speaker_on_stack
from agentlightning.adapters.tool_calls import use_tool_async
from agentlightning.adapters.watching import report_missing
from agentlightning.interception.scope import ask_for_speaker, current_scope, set_speaker


def watch_runs(module: Any) -> None:
    """Note the agent whose model call is being prepared."""
    original = getattr(module, "maybe_filter_model_input", None)
    if original is None:
        report_missing("openai_agents", "maybe_filter_model_input", "agents are told apart by the call stack.")
        ask_for_speaker(_speaker_on_stack)
        return

    @wraps(original)
    async def naming(*args: Any, agent: Any, **kwargs: Any) -> Any:
        set_speaker(agent.name)
        return await original(*args, agent=agent, **kwargs)

    module.maybe_filter_model_input = naming


def _speaker_on_stack() -> str | None:
    names = ("public_agent", "agent", "current_agent")
    return speaker_on_stack(tuple(loaded("agents.agent.Agent")), variables=names, name_of=lambda agent: agent.name)


def watch_tools(module: Any) -> None:
    """Record every function tool."""
    kind: Any = module.AgentBase
    original = kind.get_all_tools

    @wraps(original)
    async def get_all_tools(self: Any, *args: Any, **kwargs: Any) -> Any:
        tools = await original(self, *args, **kwargs)
        return tools if current_scope() is None else [_recording(tool) for tool in tools]

    kind.get_all_tools = get_all_tools


def _recording(tool: Any) -> Any:
    """A copy that records itself of a tool that runs here; hosted ones as they are.

    The SDK turns a tool's exception into a text for the model inside its invoker, so the step is made within that.
    """
    if isinstance(tool, tuple(loaded("agents.tool.ShellTool", "agents.tool.LocalShellTool"))) and tool.executor:
        return _recording_shell(tool)
    if not isinstance(tool, tuple(loaded("agents.tool.FunctionTool", "agents.tool.CustomTool"))):
        return tool
    copied = copy.copy(tool)
    invoker = copied.on_invoke_tool
    if hasattr(invoker, "_invoke_tool_impl"):
        inner = copy.copy(invoker)
        inner._invoke_tool_impl = _recorded(invoker._invoke_tool_impl, tool.name)
        copied.on_invoke_tool = inner
    else:
        copied.on_invoke_tool = _recorded(invoker, tool.name)
    return copied


def _recorded(invoke: Callable[[Any, str], Awaitable[Any]], name: str) -> Callable[[Any, str], Awaitable[Any]]:
    @wraps(invoke)
    async def recorded(context: Any, arguments: str) -> Any:
        return await use_tool_async(name, _fields(arguments), lambda: invoke(context, arguments))

    return recorded


def _recording_shell(tool: Any) -> Any:
    copied, execute = copy.copy(tool), tool.executor

    @wraps(execute)
    async def executor(request: Any) -> Any:
        async def really() -> Any:
            result = execute(request)
            return await result if inspect.isawaitable(result) else result

        said = await use_tool_async(tool.name, {"action": request.data.action}, really)
        return json.dumps(said) if isinstance(said, dict) else said

    copied.executor = executor
    return copied


def _fields(arguments: str) -> dict[str, Any]:
    try:
        fields = json.loads(arguments or "{}")
    except ValueError:
        fields = arguments
    return fields if isinstance(fields, dict) else {"input": fields}
