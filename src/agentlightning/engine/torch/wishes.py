"""What a call asks of the answer: how to draw its tokens and when to end. One reading of every dialect's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agentlightning.data.call import Call
from agentlightning.engine.torch.tool_formats import Tools
from agentlightning.engine.torch.tool_formats.base import function_of
from agentlightning.errors import DataError

LENGTH_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
_OFF = ("none",)
_FORCED = ("required", "any")


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """The honoured parameters of a call."""

    temperature: float = 1.0
    """0: always the likeliest token; its logprob is then told at temperature 1."""
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    tools: Tools = ()
    """Those that may be called: none where the call says so."""
    must_call: bool = False
    only_tool: str | None = None
    """The tool that must be called, where one was named."""
    is_parallel: bool = True
    template_options: Mapping[str, Any] = {}


def wishes_of(call: Call) -> Wishes:
    """DataError for values that mean nothing."""
    given = {key: value for key, value in call.params.items() if value is not None}
    mode, only = _choice(given.get("tool_choice"))
    tools = [] if mode in _OFF else [tool for tool in call.tools if function_of(tool).get("name")]
    wishes = Wishes(
        temperature=float(_number(given, "temperature", 1.0, 0, 100)),
        top_p=float(_number(given, "top_p", 1.0, 0, 1)),
        top_k=int(_number(given, "top_k", 0, -1, 1 << 31)),
        max_tokens=_max_tokens(given),
        stop=_stop(given),
        seed=int(given["seed"]) if isinstance(given.get("seed"), int) else None,
        n=int(_number(given, "n", 1, 1, 1024)),
        tools=tools,
        must_call=mode in _FORCED and bool(tools),
        only_tool=only,
        is_parallel=_is_parallel(given),
        template_options=given.get("chat_template_kwargs") or {},
    )
    _check(wishes)
    return wishes


def _check(wishes: Wishes) -> None:
    names = [str(function_of(tool).get("name")) for tool in wishes.tools]
    if wishes.only_tool is not None and wishes.only_tool not in names:
        raise DataError(f"tool_choice names {wishes.only_tool!r}, which is not among the tools: {', '.join(names)}.")
    if wishes.top_p == 0:
        raise DataError("top_p 0 leaves no token to draw. Use temperature 0 for the likeliest one.")


def _number(given: Mapping[str, Any], name: str, usual: float, low: float, high: float) -> float:
    value = given.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DataError(f"{name} is {value!r}; expected a number from {low} to {high}.")
    return value


def _max_tokens(given: Mapping[str, Any]) -> int | None:
    """Ollama's -1 and -2 mean no limit."""
    for name in LENGTH_NAMES:
        if name in given and not (name == "num_predict" and given[name] < 0):
            return int(_number(given, name, 0, 1, 1 << 31))
    return None


def _stop(given: Mapping[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", given.get("stop_sequences", ()))
    listed: list[Any] = [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, list | tuple) else [None]
    if not all(isinstance(item, str) for item in listed):
        raise DataError(f"stop is {stop!r}; expected a text or a list of texts.")
    return tuple(item for item in listed if item)


def _choice(choice: Any) -> tuple[str, str | None]:
    """`auto`, `none`, `required`, or a tool's name: in a word, or an object of any dialect."""
    if not isinstance(choice, Mapping):
        return str(choice or "auto"), None
    if name := function_of(choice).get("name"):
        return "required", str(name)
    return str(choice.get("mode") or choice.get("type") or "auto"), None


def _is_parallel(given: Mapping[str, Any]) -> bool:
    choice = given.get("tool_choice")
    disabled = isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use")
    return given.get("parallel_tool_calls") is not False and not disabled
