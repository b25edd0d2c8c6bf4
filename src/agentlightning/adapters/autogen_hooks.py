"""Listening to AutoGen: who is speaking, which tools ran.

AutoGen opens a telemetry span around every agent's turn, traced or not; the name it is given is the speaker's. Where
that span is gone the call stack tells. What a team's manager asks a model (Selector, MagenticOne) is the team's own.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.adapters.call_stack import speaker_on_stack
from agentlightning.adapters.tool_calls import use_tool_async
from agentlightning.adapters.watching import report_missing
from agentlightning.interception.scope import ask_for_speaker, speaking


def watch_agents(module: Any) -> None:
    """Name the speaker wherever this module begins an agent's turn."""
    original = getattr(module, "trace_invoke_agent_span", None)
    if original is None:
        report_missing(
            "autogen",
            "trace_invoke_agent_span",
            "agents are told apart by the call stack, which does not see calls made from other threads.",
        )
        ask_for_speaker(_speaker_on_stack)
        return

    @contextmanager
    @wraps(original)
    def naming(*args: Any, agent_name: str, **kwargs: Any) -> Generator[Any]:
        with speaking(agent_name), original(*args, agent_name=agent_name, **kwargs) as span:
            yield span

    module.trace_invoke_agent_span = naming


def _speaker_on_stack() -> str | None:
    return speaker_on_stack(tuple(loaded("autogen_agentchat.base.ChatAgent")))


def watch_tools(module: Any) -> None:
    """Record every tool call of AutoGen."""
    tool: Any = module.BaseTool
    original = tool.run_json

    @wraps(original)
    async def recording(self: Any, args: Mapping[str, Any], *rest: Any, **kwargs: Any) -> Any:
        return await use_tool_async(self.name, args, lambda: original(self, args, *rest, **kwargs))

    tool.run_json = recording
