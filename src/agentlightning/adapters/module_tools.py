"""Finds the tools of an agent written as plain functions: their schemas, and the functions that do the work.

Schemas are looked for among the module's globals (OpenAI's `{"type": "function", …}` form, Anthropic's with an
`input_schema`). The functions are found by name, in the globals and one level inside dicts, lists and sets there (a
dispatch table), and replaced by versions that record themselves inside a rollout and are the plain function elsewhere.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from agentlightning.adapters.base import loaded
from agentlightning.errors import AgentError, near_miss
from agentlightning.interception.tools import marked_names, step_of

_TOOL_KINDS = (
    "langchain_core.tools.base.BaseTool",
    "autogen_core.tools.BaseTool",
    "crewai.tools.base_tool.BaseTool",
    "agents.tool.FunctionTool",
)
_WRITING = re.compile(
    r"(?i)(?:^|_|\b)(send|post|publish|create|add|insert|update|set|write|save|delete|remove|drop|cancel|approve|reject|"
    r"pay|charge|refund|transfer|buy|order|book|schedule|submit|email|notify|execute|run|deploy|close|merge|invite|assign)"
    r"(?:$|_|\b|s\b|es\b)"
)
_READING = re.compile(
    r"(?i)^(get|list|look_?up|find|search|read|fetch|query|check|show|describe|count|calculate|compute)"
)


def find_schemas(function: Any) -> dict[str, str]:
    """Tools described in the module of `function`: name → description."""
    found: dict[str, str] = {}
    for value in list(getattr(function, "__globals__", {}).values()):
        for schema in _schemas(value):
            found[schema["name"]] = str(schema.get("description") or "")
    return found


def find_tool_objects(function: Any) -> dict[str, str]:
    """Tools of frameworks among the module's globals, one level inside what is there too: name → description.

    They record themselves wherever they are called.
    """
    kinds = tuple(loaded(*_TOOL_KINDS))
    held: list[Any] = []
    for value in list(getattr(function, "__globals__", {}).values()):
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        offered = getattr(value, "__dict__", {}).get("tools") if not isinstance(value, ModuleType) else None
        held += [value, *inner, *(offered if isinstance(offered, list | tuple) else ())]
    return {tool.name: str(getattr(tool, "description", "")) for tool in held if kinds and isinstance(tool, kinds)}


def attach(function: Any, *, known: Iterable[str], required: set[str]) -> None:
    """Make the functions behind the `known` tool names record themselves. Missing `required` ones are an AgentError."""
    names = set(known)
    namespace: dict[str, Any] = getattr(function, "__globals__", {})
    attached: set[str] = set()
    for key, value in list(namespace.items()):
        if _is_tool(key, value, names, function):
            name = key if key in names else value.__name__
            namespace[key] = step_of(value, "tool", name)
            attached.add(name)
        elif isinstance(value, dict):
            for inner, item in list(value.items()):
                if _is_tool(inner, item, names, function):
                    name = inner if inner in names else item.__name__
                    value[inner] = step_of(item, "tool", name)
                    attached.add(name)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if _is_tool("", item, names, function):
                    value[index] = step_of(item, "tool")
                    attached.add(item.__name__)
    if missing := sorted(required - attached - marked_names() - find_tool_objects(function).keys()):
        functions = [name for name, value in namespace.items() if inspect.isfunction(value) and value is not function]
        raise AgentError(
            f"tools: there is no function {missing[0]!r} in {namespace.get('__name__', 'the agent')}."
            f"{near_miss(missing[0], functions)} A tool's mode can be set for functions of the agent's own module "
            f"({', '.join(sorted(functions)) or 'it has none'}) and for those marked @agentlightning.step(kind='tool')."
        )


def writing_tools(tools: Mapping[str, str]) -> list[str]:
    """Tools that, by name or description, seem to change something in the world."""
    return [name for name, text in tools.items() if not _READING.match(name) and _WRITING.search(f"{name} {text[:80]}")]


def _is_tool(key: Any, value: Any, names: set[str], agent: Any) -> bool:
    if not (inspect.isfunction(value) or inspect.ismethod(value)) or value is agent:
        return False
    return key in names or value.__name__ in names


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    entries: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        if entry.get("type") != "function" and "input_schema" not in entry:
            continue
        inner = entry.get("function", entry)
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            yield inner
