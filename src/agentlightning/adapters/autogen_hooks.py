"""Listening to AutoGen: who is speaking.

AutoGen opens a telemetry span around every agent's turn, traced or not; the name it is given is the speaker's. The call
stack would not tell: models are asked in tasks of their own. What a team's manager asks a model (Selector, MagenticOne)
is the team's own.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import wraps
from typing import Any, cast

from agentlightning.adapters.watching import report_missing
from agentlightning.adapters.within import within
from agentlightning.interception.scope import current_scope, speaking


def watch_agents(module: Any) -> None:
    """Name the speaker wherever this module begins an agent's turn."""
    original = getattr(module, "trace_invoke_agent_span", None)
    if original is None:
        report_missing(
            "autogen",
            "trace_invoke_agent_span",
            "only the agents that were there when it was wrapped are told apart.",
        )
        return

    @contextmanager
    @wraps(original)
    def naming(*args: Any, agent_name: str, **kwargs: Any) -> Generator[Any]:
        with speaking(agent_name), original(*args, agent_name=agent_name, **kwargs) as span:
            yield span

    module.trace_invoke_agent_span = naming


def name_turns(kind: Any) -> None:
    """Where the span is gone: name the speaker in the public method by which agents of this class take their turn."""
    original = kind.on_messages_stream
    if hasattr(original, "__agentlightning_named__"):
        return

    @wraps(original)
    def naming(self: Any, *args: Any, **kwargs: Any) -> Any:
        turn, scope = original(self, *args, **kwargs), current_scope()
        return turn if scope is None else within(turn, scope, self.name)

    cast(Any, naming).__agentlightning_named__ = True
    kind.on_messages_stream = naming
