"""Listening to LangChain and LangGraph: who is speaking, which tools ran.

Who speaks stands in the metadata of the running config (public `ensure_config`): the name given to `create_agent`, else
the graph's node. An AgentExecutor that has a `name` speaks by it. Tools pass `BaseTool.run` and `arun`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.adapters.call_stack import speaker_on_stack
from agentlightning.adapters.tool_calls import ToolFailed, use_tool, use_tool_async
from agentlightning.adapters.watching import report_missing
from agentlightning.adapters.within import within
from agentlightning.interception.scope import ask_for_speaker, current_scope, speaking

AGENT_MARK = ("ls_integration", "langchain_create_agent")
"""What `create_agent` writes into the metadata of its graphs."""


def watch_runs(module: Any) -> None:
    """Know who speaks from the config that runs."""
    if hasattr(module, "ensure_config"):
        ask_for_speaker(lambda: speaker_in(module.ensure_config().get("metadata") or {}))
    else:
        report_missing(
            "langchain", "ensure_config", "nodes of graphs are told apart by the call stack, async ones not."
        )
        ask_for_speaker(_node_on_stack)


def _node_on_stack() -> str | None:
    """The node that LangGraph runs in this thread or task."""
    kinds = tuple(loaded("langgraph.types.PregelExecutableTask"))
    return speaker_on_stack(kinds, variables=("task",), name_of=lambda task: speaker_in(task.config["metadata"]))


def speaker_in(metadata: Mapping[str, Any]) -> str | None:
    """The agent a run's metadata names. The nodes inside a `create_agent` graph are its own parts, not agents."""
    if name := metadata.get("lc_agent_name"):
        return str(name)
    key, value = AGENT_MARK
    if metadata.get(key) != value:
        return metadata.get("langgraph_node")
    outer = str(metadata.get("langgraph_checkpoint_ns") or "").split("|")[:-1]
    return outer[-1].partition(":")[0] if outer else None


def watch_executors(module: Any) -> None:
    """An AgentExecutor asks its model without a config of its own; so its name is noted where it is run."""
    kind: Any = module.AgentExecutor
    for name in ("invoke", "ainvoke", "stream", "astream"):
        setattr(kind, name, _speaking_as_itself(getattr(kind, name)))


def _speaking_as_itself(original: Any) -> Any:
    @wraps(original)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is None or not self.name:
            return original(self, *args, **kwargs)
        with speaking(self.name):
            result = original(self, *args, **kwargs)
        return within(result, scope, self.name)

    return run


def watch_tools(module: Any) -> None:
    """Record every tool call of LangChain."""
    tool: Any = module.BaseTool
    run, arun = tool.run, tool.arun

    @wraps(run)
    def recording_run(self: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        use = _ToolUse(self, tool_input, kwargs)
        try:
            said = use_tool(self.name, use.arguments(), lambda: use.ran(run(self, tool_input, *args, **kwargs)))
        except ToolFailed:
            return use.made[0]
        return use.answer(said)

    @wraps(arun)
    async def recording_arun(self: Any, tool_input: Any, *args: Any, **kwargs: Any) -> Any:
        use = _ToolUse(self, tool_input, kwargs)

        async def really() -> Any:
            return use.ran(await arun(self, tool_input, *args, **kwargs))

        try:
            said = await use_tool_async(self.name, use.arguments(), really)
        except ToolFailed:
            return use.made[0]
        return use.answer(said)

    tool.run, tool.arun = recording_run, recording_arun


class _ToolUse:
    """One call. Its step shows what the tool said; the framework gets the very object the tool made."""

    def __init__(self, tool: Any, tool_input: Any, options: Mapping[str, Any]) -> None:
        self._tool, self._input = tool, tool_input
        self._call_id = options.get("tool_call_id")
        self.made: list[Any] = []

    def arguments(self) -> dict[str, Any]:
        """As the model wrote them: what the framework injects (state, runtime) is left out."""
        if current_scope() is None or not isinstance(self._input, dict):
            return {"input": self._input}
        known = _argument_names(self._tool)
        return {key: value for key, value in self._input.items() if known is None or key in known}

    def ran(self, result: Any) -> Any:
        self.made.append(result)
        if current_scope() is None or type(result).__name__ != "ToolMessage":
            return result
        if result.status == "error":
            raise ToolFailed(result.content)
        return result.content

    def answer(self, said: Any) -> Any:
        if self.made:
            return self.made[0]
        if self._call_id is None:
            return said
        if (command := _as_command(said)) is not None:
            return _readdressed(command, self._call_id)
        return _message(said if isinstance(said, str) else str(said), self._tool.name, self._call_id)


def _message(text: str, name: str, call_id: str) -> Any:
    from langchain_core.messages import ToolMessage  # pyright: ignore

    return ToolMessage(text, name=name, tool_call_id=call_id)


def _as_command(said: Any) -> Any:
    """LangGraph's Command, if that is what the tool answered, as it was kept or read from a store."""
    kinds = loaded("langgraph.types.Command")
    if kinds and isinstance(said, dict) and set(said) == {"graph", "update", "resume", "goto"}:
        return kinds[0](**said)
    return said if isinstance(said, tuple(kinds)) else None


def _readdressed(command: Any, call_id: str) -> Any:
    """The same command as the answer to another call."""
    update = command.update
    if not isinstance(update, dict) or not isinstance(update.get("messages"), list):
        return command
    messages = [_addressed(message, call_id) for message in update["messages"]]
    return replace(command, update={**update, "messages": messages})


def _addressed(message: Any, call_id: str) -> Any:
    fields = message if isinstance(message, dict) else message.model_dump()
    if fields.get("type") != "tool":
        return message
    return _message(fields["content"], fields.get("name") or "", call_id)


def _argument_names(tool: Any) -> set[str] | None:
    schema = tool.tool_call_schema
    fields = schema.get("properties") if isinstance(schema, dict) else getattr(schema, "model_fields", None)
    return set(fields) if fields is not None else None
