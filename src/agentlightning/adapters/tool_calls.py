"""A framework's tool call as a step, whatever the framework: recorded, and answered as the tool's mode says.

Frameworks hand tools around as objects with dynamic names, so each call is wrapped when it happens.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from keyword import iskeyword
from typing import Any

from agentlightning.interception.scope import current_scope
from agentlightning.interception.tools import step_of


class ToolFailed(Exception):
    """Raised where a framework makes an answer of a tool's failure: the step fails, the model is told the answer."""


def use_tool(name: str, arguments: Mapping[str, Any], run: Callable[[], Any]) -> Any:
    """What `run` gives, recorded as a call of the tool; in a mode other than live perhaps without running it."""
    if current_scope() is None:
        return run()

    def call(**arguments: Any) -> Any:
        return run()

    return step_of(_with_signature(call, arguments), "tool", name)(**arguments)


async def use_tool_async(name: str, arguments: Mapping[str, Any], run: Callable[[], Awaitable[Any]]) -> Any:
    """As `use_tool`."""
    if current_scope() is None:
        return await run()

    async def call(**arguments: Any) -> Any:
        return await run()

    return await step_of(_with_signature(call, arguments), "tool", name)(**arguments)


def _with_signature(function: Any, arguments: Mapping[str, Any]) -> Any:
    """The arguments as named parameters, so that the step shows them as the tool's own."""
    names = [key for key in arguments if key.isidentifier() and not iskeyword(key)]
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    if len(names) < len(arguments):
        parameters.append(inspect.Parameter("other_arguments", inspect.Parameter.VAR_KEYWORD))
    function.__signature__ = inspect.Signature(parameters)
    return function
