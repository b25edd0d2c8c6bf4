"""What an adapter must say about an agent: is it mine, what is it called, how is it run, which tools has it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from agentlightning.errors import AgentError


class Adapter:
    """One kind of agent. Subclasses import their framework inside methods only."""

    name: ClassVar[str] = ""

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        """Is this object surely of this kind? Must not import a framework that is not loaded yet."""
        raise NotImplementedError

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        """Why this object cannot be run as this kind, or None; for a user who named the kind."""
        raise NotImplementedError

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def label(self) -> str:
        """A readable id for the agent."""
        raise NotImplementedError

    def tools(self) -> Mapping[str, str]:
        """Tools known before the first run: name → description."""
        return {}

    def attach_tools(self, names: Mapping[str, Any]) -> None:
        """Make the named tools' calls visible (and their modes effective). AgentError names one that is not there."""
        if names:
            raise AgentError(f"agents of type {self.name!r} have no tools that can be set: {', '.join(names)}")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the agent as its user does; may give back a coroutine, a generator or an async generator."""
        raise NotImplementedError

    def invoke(self, task_input: str | dict[str, Any]) -> Any:
        """Run the agent on a task's input: text is its one argument, fields are its keyword arguments."""
        if isinstance(task_input, dict):
            return self.call(**task_input)
        return self.call(task_input)


def bind_input(function: Any, task_input: str | dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a task's input meets a function's parameters: by name where they fit, else as the one argument."""
    if not isinstance(task_input, dict):
        return (task_input,), {}
    try:
        inspect.signature(function).bind(**task_input)
    except TypeError:
        return (task_input,), {}
    except ValueError:  # a builtin without a signature
        return (task_input,), {}
    return (), dict(task_input)
