"""AutoGen's tools: which an agent has, and every call of one as a step.

A tool's call passes `BaseTool.run_json`, or its stream; agents and teams used as tools (`AgentTool`, `TeamTool`) pass
it too, and their answer is kept as the text the model is told. Workbenches that bring tools of their own (MCP) are
recorded at `call_tool`, and a `CodeExecutorAgent` where it runs the model's code.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from functools import wraps
from typing import Any, cast

from agentlightning.adapters.base import loaded
from agentlightning.adapters.tool_calls import ToolFailed, use_tool_async
from agentlightning.interception.scope import current_scope
from agentlightning.interception.tools import ReplayMiss

RUNNERS = "autogen_agentchat.tools._task_runner_tool.TaskRunnerTool"
STATIC = "autogen_core.tools.StaticWorkbench"
CODE = "execute_code_block"


def tools_of(agent: Any) -> Iterator[Any]:
    """The tools an agent was given, or its workbenches hold; not those that a server will name."""
    for bench in workbenches_of(agent):
        yield from getattr(bench, "_tools", []) if isinstance(bench, tuple(loaded(STATIC))) else []


def workbenches_of(agent: Any) -> list[Any]:
    return list(getattr(agent, "_workbench", None) or [])


def described_tools(agent: Any) -> dict[str, str]:
    """Name → description; running code counts as one."""
    found = {tool.name: str(tool.description) for tool in tools_of(agent)}
    if isinstance(agent, tuple(loaded("autogen_agentchat.agents.CodeExecutorAgent"))):
        found[CODE] = "Runs the code that the model wrote."
    return found


def runners_of(agent: Any) -> Iterator[Any]:
    """The agents and teams it uses as tools."""
    for tool in tools_of(agent):
        if is_runner(tool):
            yield tool._task_runner


def is_runner(tool: Any) -> bool:
    return isinstance(tool, tuple(loaded(RUNNERS)))


def watch_tools(module: Any) -> None:
    """Record every tool call of AutoGen."""
    module.BaseTool.run_json = _recording(module.BaseTool.run_json)
    module.BaseStreamTool.run_json_stream = _recording_stream(module.BaseStreamTool.run_json_stream)


def _recording(original: Any) -> Any:
    @wraps(original)
    async def run_json(self: Any, args: Mapping[str, Any], *rest: Any, **kwargs: Any) -> Any:
        if current_scope() is None:
            return await original(self, args, *rest, **kwargs)
        made: list[Any] = []

        async def really() -> Any:
            made.append(await original(self, args, *rest, **kwargs))
            return _said(self, made[0])

        said = await use_tool_async(self.name, args, really)
        return made[0] if made else _as_made(self, said)

    return run_json


def _recording_stream(original: Any) -> Any:
    """What the tool yields comes when it has ended: a step is one answer."""

    @wraps(original)
    async def run_json_stream(self: Any, args: Mapping[str, Any], *rest: Any, **kwargs: Any) -> AsyncGenerator[Any]:
        if current_scope() is None:
            async for item in original(self, args, *rest, **kwargs):
                yield item
            return
        items: list[Any] = []

        async def really() -> Any:
            items.extend([item async for item in original(self, args, *rest, **kwargs)])
            return _said(self, items[-1])

        said = await use_tool_async(self.name, args, really)
        for item in items or [_as_made(self, said)]:
            yield item

    return run_json_stream


def _said(tool: Any, result: Any) -> Any:
    """What the step shows: of a whole conversation only the text the model is told."""
    return tool.return_value_as_string(result) if is_runner(tool) else result


def _as_made(tool: Any, said: Any) -> Any:
    """An answer from the tape or a stub as the tool would have made it."""
    if not is_runner(tool):
        return said
    from autogen_agentchat.base import TaskResult  # pyright: ignore
    from autogen_agentchat.messages import TextMessage  # pyright: ignore

    return TaskResult(messages=[TextMessage(content=str(said), source=tool.name)])


def record_workbench(kind: Any) -> None:
    """Record the calls of a workbench class with tools of its own; what static ones hold records itself."""
    if hasattr(kind.call_tool, "__agentlightning_recorded__") or issubclass(kind, tuple(loaded(STATIC))):
        return
    original = kind.call_tool

    @wraps(original)
    async def call_tool(self: Any, name: str, arguments: Any = None, *rest: Any, **kwargs: Any) -> Any:
        return await _used(name, arguments, lambda: original(self, name, arguments, *rest, **kwargs))

    cast(Any, call_tool).__agentlightning_recorded__ = True
    kind.call_tool = call_tool


def watch_mcp(module: Any) -> None:
    record_workbench(module.McpWorkbench)


async def _used(name: str, arguments: Any, call: Callable[[], Awaitable[Any]]) -> Any:
    if current_scope() is None:
        return await call()
    made: list[Any] = []

    async def really() -> str:
        made.append(await call())
        if made[0].is_error:
            raise ToolFailed(made[0].to_text())
        return made[0].to_text()

    try:
        said = await use_tool_async(name, arguments or {}, really)
    except ToolFailed:
        return made[0]
    except ReplayMiss as miss:
        return _tool_result(name, str(miss), is_error=True)
    return made[0] if made else _tool_result(name, str(said))


def _tool_result(name: str, text: str, *, is_error: bool = False) -> Any:
    from autogen_core.tools import TextResultContent, ToolResult  # pyright: ignore

    return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=is_error)


def watch_code(module: Any) -> None:
    """Record the code that a CodeExecutorAgent runs."""
    kind: Any = module.CodeExecutorAgent
    original = getattr(kind, CODE)

    @wraps(original)
    async def execute_code_block(self: Any, code_blocks: Any, *rest: Any, **kwargs: Any) -> Any:
        made: list[Any] = []

        async def really() -> Any:
            made.append(await original(self, code_blocks, *rest, **kwargs))
            return {"exit_code": made[0].exit_code, "output": made[0].output}

        code = [{"language": block.language, "code": block.code} for block in code_blocks]
        said = await use_tool_async(CODE, {"code_blocks": code}, really)
        return made[0] if made else _code_result(said)

    setattr(kind, CODE, execute_code_block)


def _code_result(said: Any) -> Any:
    from autogen_core.code_executor import CodeResult  # pyright: ignore

    return CodeResult(**said) if isinstance(said, dict) else CodeResult(exit_code=0, output=str(said))
