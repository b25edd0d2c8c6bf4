"""Tools that are functions, in the three shapes formats have for them. Tools of any other kind pass as they are."""

from __future__ import annotations

from collections.abc import Callable

from agentlightning.interception.dialects.splice import spliced
from agentlightning.interception.dialects.values import Body, as_object

Shape = Callable[[Body], Body]


def from_flat(tool: Body) -> Body:
    """Responses: name, description, parameters and strict beside the type."""
    return _nested(tool, "parameters") if tool.get("type") == "function" else tool


def to_flat(tool: Body) -> Body:
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, dict) else tool


def from_schema(tool: Body) -> Body:
    """Messages: the parameters are an `input_schema`."""
    return _nested(tool, "input_schema") if "input_schema" in tool else tool


def to_schema(tool: Body) -> Body:
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    schema = {"input_schema": as_object(function.get("parameters")) or {"type": "object"}}
    return {key: function[key] for key in ("name", "description", "strict") if key in function} | schema


def rewritten(wires: list[Body], before: list[Body], after: list[Body], write: Shape, read: Shape) -> list[Body]:
    """The tools of a changed call; of a changed tool, fields that only its format has (cache_control) stay."""

    def edit(wire: Body, _: Body, tool: Body) -> Body:
        own = write(read(wire))
        return {key: value for key, value in wire.items() if key not in own} | write(tool)

    return spliced(wires, before, after, new=write, edit=edit)


def _nested(tool: Body, parameters: str) -> Body:
    function = {key: tool[key] for key in ("name", "description", "strict") if key in tool}
    if parameters in tool:
        function["parameters"] = tool[parameters]
    return {"type": "function", "function": function}
