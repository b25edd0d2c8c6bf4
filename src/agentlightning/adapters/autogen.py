"""AutoGen: agents and teams of every kind. Both keep state between runs, so each rollout gets a copy.

A copy shares model clients and tools with the original and has its own messages, contexts, termination and runtime.
Component configuration is not used for it: it rebuilds tools from their source text, outside the module they live in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agentlightning.adapters.autogen_hooks import name_turns
from agentlightning.adapters.base import ObjectAdapter, loaded, text_of_input
from agentlightning.adapters.copying import copy_of
from agentlightning.adapters.watching import missing

_SHARED = (
    "autogen_core.models.ChatCompletionClient",
    "autogen_core.tools.BaseTool",
    "autogen_core.tools.Workbench",
    "autogen_core.code_executor.CodeExecutor",
)
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

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        return isinstance(thing, tuple(loaded("autogen_agentchat.base.ChatAgent", "autogen_agentchat.base.Team")))

    @property
    def knows_all_members(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return not _is_team(self.sample) or hasattr(self.sample, "_participants")

    def label(self) -> str:
        return str(self.sample.name)

    def members(self) -> list[str]:
        return list(dict.fromkeys(str(each.name) for each in _everybody(self.sample) if not _is_team(each)))

    def parts(self) -> list[Any]:
        return [each for each in _everybody(self.sample) if each is not self.sample]

    def tools(self) -> Mapping[str, str]:
        found = [tool for agent in _everybody(self.sample) for tool in getattr(agent, "_tools", [])]
        return {tool.name: str(tool.description) for tool in found}

    def fresh_copy(self) -> Any:
        renewed = {kind: lambda _, kind=kind: kind(ignore_unhandled_exceptions=False) for kind in loaded(_RUNTIME)}
        copied = copy_of(self.sample, shared=tuple(loaded(*_SHARED)), renewed=renewed)
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

        if _is_team(self.sample):
            await self.sample.reset()
        else:
            await self.sample.on_reset(CancellationToken())
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
    """The agent or team, and all inside it."""
    yield thing
    inner = [
        *getattr(thing, "_participants", []),
        getattr(thing, "_team", None),
        getattr(thing, "_wrapped_agent", None),
    ]
    for each in inner:
        if each is not None:
            yield from _everybody(each)
