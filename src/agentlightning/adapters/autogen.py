"""AutoGen: agents and teams of every kind. Both keep state between runs, so each rollout gets a copy.

A copy shares model clients and tools with the original (but for agents and teams that are tools, and tools with state)
and has its own messages, contexts, termination and runtime.
Component configuration is not used for it: it rebuilds tools from their source text, outside the module they live in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentlightning.adapters.autogen_hooks import name_turns
from agentlightning.adapters.autogen_structure import links_of, member_of
from agentlightning.adapters.autogen_tools import (
    RUNNERS,
    STATIC,
    described_tools,
    record_workbench,
    runners_of,
    workbenches_of,
)
from agentlightning.adapters.base import ObjectAdapter, loaded, text_of_input
from agentlightning.adapters.copying import copy_of
from agentlightning.adapters.watching import missing
from agentlightning.data.structure import Structure

_SHARED = (
    "autogen_core.models.ChatCompletionClient",
    "autogen_core.tools.BaseTool",
    "autogen_core.tools.Workbench",
    "autogen_core.code_executor.CodeExecutor",
)
_COPIED = (RUNNERS, STATIC, "autogen_core.tools.BaseToolWithState")
_RUNTIME = "autogen_core.SingleThreadedAgentRuntime"


class AutoGenAdapter(ObjectAdapter):
    """A team or an agent of `autogen_agentchat`."""

    name = "autogen"
    wants = "an AutoGen agent or team"
    entry_points = ("run", "run_stream", "on_messages", "on_messages_stream")

    def __init__(self, agent: Any) -> None:
        super().__init__(agent)
        if missing(self.name):
            for kind in {type(each) for each in _everybody(self.sample) if hasattr(each, "on_messages_stream")}:
                name_turns(kind)
        for kind in {type(bench) for each in _everybody(self.sample) for bench in workbenches_of(each)}:
            record_workbench(kind)

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return isinstance(thing, tuple(loaded("autogen_agentchat.base.ChatAgent", "autogen_agentchat.base.Team")))

    @property
    def knows_all_members(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return not _is_team(self.sample) or hasattr(self.sample, "_participants")

    def label(self) -> str:
        return str(self.sample.name)

    def members(self) -> list[str]:
        """A filter around an agent speaks for it, by the filter's name."""
        filtered = {id(getattr(each, "_wrapped_agent", None)) for each in _everybody(self.sample)}
        speakers = [each for each in _everybody(self.sample) if not _is_team(each) and id(each) not in filtered]
        return list(dict.fromkeys(str(each.name) for each in speakers))

    def parts(self) -> list[Any]:
        return [each for each in _everybody(self.sample) if each is not self.sample]

    def tools(self) -> Mapping[str, str]:
        return {name: text for each in _everybody(self.sample) for name, text in described_tools(each).items()}

    def structure(self) -> Structure:
        names = set(self.members())
        members = [member_of(each) for each in _everybody(self.sample) if not _is_team(each) and each.name in names]
        links = [link for each in _everybody(self.sample) for link in links_of(each, is_team=_is_team(each))]
        kind = f"{self.name} {type(self.sample).__name__}"
        return Structure(self.label(), kind, list({m.name: m for m in members}.values()), links, dict(self.tools()))

    def tool_servers(self) -> list[str]:
        benches = [bench for each in _everybody(self.sample) for bench in workbenches_of(each)]
        return sorted(
            {f"a {type(bench).__name__}" for bench in benches if not isinstance(bench, tuple(loaded(STATIC)))}
        )

    def fresh_copy(self) -> Any:
        renewed = {kind: lambda _, kind=kind: kind(ignore_unhandled_exceptions=False) for kind in loaded(_RUNTIME)}
        copied = copy_of(self.sample, shared=tuple(loaded(*_SHARED)), copied=tuple(loaded(*_COPIED)), renewed=renewed)
        for each in _everybody(copied):
            if hasattr(each, "_initialized"):  # its new runtime knows nobody yet
                each._initialized = False
        return copied

    def run(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        return self._answer(instance, task_input)

    async def _answer(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        result = await instance.run(task=text_of_input(task_input))
        return answer_of(result)

    def run_original(self, task_input: str | dict[str, Any]) -> Any:
        return self._reset_and_run(task_input)

    async def _reset_and_run(self, task_input: str | dict[str, Any]) -> Any:
        from autogen_core import CancellationToken  # pyright: ignore

        for each in [self.sample, *(runner for part in _everybody(self.sample) for runner in runners_of(part))]:
            await (each.reset() if _is_team(each) else each.on_reset(CancellationToken()))
        return await self._answer(self.sample, task_input)


def answer_of(result: Any) -> Any:
    """What the last agent said; a team's own closing words (why it stopped) are no answer."""
    for message in reversed(result.messages):
        kind = type(message).__name__
        if message.source != "user" and kind != "StopMessage" and hasattr(message, "to_model_message"):
            return getattr(message, "content", None) if kind.startswith("StructuredMessage") else message.to_text()
    return None


def _is_team(thing: Any) -> bool:
    return isinstance(thing, tuple(loaded("autogen_agentchat.base.Team")))


def _everybody(thing: Any) -> Iterator[Any]:
    """The agent or team, and all inside it or used by it as a tool."""
    yield thing
    inner = [
        *getattr(thing, "_participants", []),
        getattr(thing, "_team", None),
        getattr(thing, "_wrapped_agent", None),
        *runners_of(thing),
    ]
    for each in inner:
        if each is not None:
            yield from _everybody(each)
