"""Inner functions and tools as steps, and what a tool may do to the world while an agent is run hundreds of times.

Modes: `live` runs it; `stub` answers a fixed value without running it; `record` runs it once for each distinct set of
arguments and answers repeats from the tape; `replay` only ever answers from the tape.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar, cast, overload

import msgspec

from agentlightning.data.trajectory import StepKind
from agentlightning.errors import ConfigError, near_miss
from agentlightning.interception.recorder import Span, plain
from agentlightning.interception.scope import Scope, current_agent, current_scope

Mode = Literal["live", "stub", "record", "replay"]
MODES: tuple[Mode, ...] = ("live", "stub", "record", "replay")
F = TypeVar("F", bound=Callable[..., Any])


class ReplayMiss(LookupError):
    """A tool in replay mode was called with arguments the tape does not know; to the agent the tool failed."""


class ToolMode(msgspec.Struct, frozen=True):
    """How one tool behaves inside rollouts."""

    mode: Mode = "live"
    returns: Any = "ok (stubbed)"
    """What a stub answers."""


class Tape:
    """Results of earlier calls by (tool, arguments). Filled from the store's steps, added to while recording."""

    def __init__(self) -> None:
        self._results: dict[tuple[str, bytes], Any] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: tuple[str, Any]) -> bool:
        return (key[0], _key(key[1])) in self._results

    def get(self, name: str, arguments: Any) -> Any:
        """The recorded result; KeyError when there is none."""
        return self._results[name, _key(arguments)]

    def put(self, name: str, arguments: Any, result: Any) -> None:
        with self._lock:
            self._results.setdefault((name, _key(arguments)), result)


class ToolModes:
    """The modes of a run's tools, and its tape."""

    def __init__(self, modes: Mapping[str, ToolMode] | None = None, tape: Tape | None = None) -> None:
        self.modes = dict(modes or {})
        self.tape = tape or Tape()

    def of(self, name: str) -> ToolMode:
        return self.modes.get(name, _LIVE)


_LIVE = ToolMode()


def parse_modes(given: Mapping[str, Any] | None) -> dict[str, ToolMode]:
    """`{"send_email": "stub", "search": {"mode": "record"}}` → modes; ConfigError names a wrong one."""
    modes: dict[str, ToolMode] = {}
    for name, value in (given or {}).items():
        fields: Any = {"mode": value} if isinstance(value, str) else value
        if not isinstance(fields, Mapping):
            raise ConfigError(f"tools.{name}: a mode ({', '.join(MODES)}) or {{mode, returns}}, not {value!r}")
        mode = "record" if fields.get("mode") == "record/replay" else fields.get("mode", "stub")
        if mode not in MODES:
            raise ConfigError(
                f"tools.{name}: unknown mode {mode!r}.{near_miss(str(mode), MODES)} Known: {', '.join(MODES)}."
            )
        unknown = set(fields) - {"mode", "returns"}
        if unknown:
            raise ConfigError(f"tools.{name}: unknown key {sorted(unknown)[0]!r}; a tool takes mode and returns.")
        modes[name] = ToolMode(mode=mode, returns=fields.get("returns", _LIVE.returns))
    return modes


@overload
def step(function: F, /) -> F: ...
@overload
def step(*, kind: StepKind = "function", name: str | None = None) -> Callable[[F], F]: ...
def step(function: Any = None, /, *, kind: StepKind = "function", name: str | None = None) -> Any:
    """Mark a plain function (a tool, a retriever): inside a rollout its inputs and outputs become a step.

    Outside a rollout it is the function itself, and model calls never need it. Sync and async functions; nested too.
    """
    if function is None:
        return lambda inner: step_of(inner, kind, name)
    return step_of(function, kind, name)


def step_of(function: Any, kind: StepKind, name: str | None = None) -> Any:
    """The recording version of `function`; one that is recording already is given back as it is."""
    if getattr(function, "__agentlightning_step__", None):
        return function
    if not callable(function):
        raise TypeError(f"@step takes a function, not {type(function).__name__}")
    label = name or getattr(function, "__name__", type(function).__name__)
    if inspect.iscoroutinefunction(function):
        wrapper = _recording_async(function, kind, label)
    else:
        wrapper = _recording(function, kind, label)
    cast(Any, wrapper).__agentlightning_step__ = label
    return wrapper


def _recording(function: Any, kind: StepKind, name: str) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is None or scope.recorder is None or scope.is_closed:
            return function(*args, **kwargs)
        arguments = _arguments(function, args, kwargs)
        span = _open(scope, kind, name, arguments)
        try:
            is_answered, result = _answer(scope, name, span.arguments)
            if not is_answered:
                result = function(*args, **kwargs)
                _keep(scope, name, span.arguments, result)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(result)
        return result

    return call


def _recording_async(function: Any, kind: StepKind, name: str) -> Callable[..., Any]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        scope = current_scope()
        if scope is None or scope.recorder is None or scope.is_closed:
            return await function(*args, **kwargs)
        arguments = _arguments(function, args, kwargs)
        span = _open(scope, kind, name, arguments)
        try:
            is_answered, result = _answer(scope, name, span.arguments)
            if not is_answered:
                result = await function(*args, **kwargs)
                _keep(scope, name, span.arguments, result)
        except BaseException as error:
            span.end(error=error)
            raise
        span.end(result)
        return result

    return call


def _open(scope: Scope, kind: StepKind, name: str, arguments: Any) -> Span:
    assert scope.recorder is not None
    return scope.recorder.open_span(kind=kind, agent=current_agent() or scope.agent, name=name, arguments=arguments)


def _answer(scope: Scope, name: str, arguments: Any) -> tuple[bool, Any]:
    """(True, result) when the tool must not run."""
    if scope.tools is None:
        return False, None
    mode, tape = scope.tools.of(name), scope.tools.tape
    if mode.mode == "stub":
        return True, mode.returns
    if mode.mode in ("record", "replay") and (name, arguments) in tape:
        return True, tape.get(name, arguments)
    if mode.mode == "replay":
        raise ReplayMiss(f"tool {name!r} is in replay mode and was never recorded with {arguments!r}")
    return False, None


def _keep(scope: Scope, name: str, arguments: Any, result: Any) -> None:
    if scope.tools is not None and scope.tools.of(name).mode == "record":
        scope.tools.tape.put(name, arguments, plain(result))


def _arguments(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name, so that `f(1)` and `f(x=1)` are the same call."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}
    return {key: value for key, value in bound.arguments.items() if key != "self"}


def _key(arguments: Any) -> bytes:
    return msgspec.json.encode(plain(arguments), order="deterministic")
