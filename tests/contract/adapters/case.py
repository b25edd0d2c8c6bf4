"""What a framework must show for the contract: a writer and a critic, as its users would write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from tests.servers import FakeOpenAI


class Case:
    """One adapter's agents. The writer speaks first, the critic last; the critic's words are the answer."""

    name = ""
    package = ""
    writer, critic = "writer", "critic"
    tool_user = "writer"
    """Who is speaking when the tool runs."""
    has_known_members = True
    dialect = "chat"
    left_out: Mapping[str, str] = MappingProxyType({})
    """Situations that cannot be, by the name of the test, and why."""

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None

    @property
    def can_use_tools(self) -> bool:
        """False where two packages of this environment do not fit together."""
        return True

    def team(self, server: FakeOpenAI, *, stream: bool = False, tool: Callable[..., Any] | None = None) -> Any:
        """The agents, talking to `server`; the writer has `tool`."""
        raise NotImplementedError

    def ask(self, agent: Any, question: str) -> Any:
        """How a user runs it, given the wrapped object; the answer's text, or an awaitable of it."""
        return agent(question)
