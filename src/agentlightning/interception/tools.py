"""Inner functions and tools as steps, and what a tool may do to the world while an agent is run hundreds of times.

Modes: `live` runs it; `stub` answers a fixed value without running it; `record` runs it once for each distinct set of
arguments and answers repeats from the tape; `replay` only ever answers from the tape.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import wraps
from typing import Any, Literal, TypeVar, cast, overload

import msgspec

from agentlightning.data.trajectory import StepKind
from agentlightning.errors import ConfigError, near_miss
from agentlightning.interception.recorder import Span
from agentlightning.interception.scope import Scope, current_agent, current_scope
from agentlightning.interception.tape import Tape, own_copy

__all__ = [
    "MODES",
    "Mode",
    "ReplayMiss",
    "Tape",
    "ToolMode",
    "ToolModes",
    "marked_names",
    "parse_modes",
    "step",
    "step_of",
]

Mode = Literal["live", "stub", "record", "replay"]
MODES: tuple[Mode, ...] = ("live", "stub", "record", "replay")
F = TypeVar("F", bound=Callable[..., Any])


class ReplayMiss(LookupError):
    """A tool in replay mode was called with arguments the tape does not know; to the agent the tool failed."""


class ToolMode(msgspec.Struct, frozen=True):
    """How one tool behaves inside rollouts."""

    mode: Mode = "live"
    returns: Any = "ok (stubbed)"
    """What a stub answers; a stubbed generator yields the items of a list, or the one value."""


_LIVE = ToolMode()
_marked: set[str] = set()


class ToolModes:
    """The modes of a run's tools, and its tape."""

    def __init__(self, modes: Mapping[str, ToolMode] | None = None, tape: Tape | None = None) -> None:
        self.modes = dict(modes or {})
        self.tape = tape or Tape()

    def of(self, name: str) -> ToolMode:
        return self.modes.get(name, _LIVE)


def parse_modes(given: Mapping[str, Any] | None) -> dict[str, ToolMode]:
    """`{"send_email": "stub", "search": {"mode": "record"}}` → modes; ConfigError names a wrong one."""
    return {name: _parse_mode(name, value) for name, value in (given or {}).items()}


def _parse_mode(name: str, value: Any) -> ToolMode:
    fields: Any = {"mode": value} if isinstance(value, str) else value
    if not isinstance(fields, Mapping):
        raise ConfigError(f"tools.{name}: a mode ({', '.join(MODES)}) or {{mode, returns}}, not {value!r}")
    mode = "record" if fields.get("mode") == "record/replay" else fields.get("mode", "stub")
    if mode not in MODES:
        raise ConfigError(
            f"tools.{name}: unknown mode {mode!r}.{near_miss(str(mode), MODES)} Known: {', '.join(MODES)}."
        )
    unknown = sorted(str(key) for key in fields if key not in ("mode", "returns"))
    if unknown:
        raise ConfigError(f"tools.{name}: unknown key {unknown[0]!r}; a tool takes mode and returns.")
    return ToolMode(mode=mode, returns=fields.get("returns", _LIVE.returns))


@overload
def step(function: F, /) -> F: ...
@overload
def step(*, kind: StepKind = "function", name: str | None = None) -> Callable[[F], F]: ...
def step(function: Any = None, /, *, kind: StepKind = "function", name: str | None = None) -> Any:
    """Mark a plain function (a tool, a retriever): inside a rollout its inputs and outputs become a step.

    Outside a rollout it is the function itself, and model calls never need it. Functions and methods, sync, async and
    generators; nested too. A generator's step ends when it is exhausted or closed; its result is the list of its items.
    """
    if function is None:
        return lambda inner: _mark(inner, kind, name)
    return _mark(function, kind, name)


def _mark(function: Any, kind: StepKind, name: str | None) -> Any:
    marked = step_of(function, kind, name)
    _marked.add(marked.__agentlightning_step__)
    return marked


def marked_names() -> frozenset[str]:
    """Names of all functions marked so far, wherever they are."""
    return frozenset(_marked)


def step_of(function: Any, kind: StepKind, name: str | None = None) -> Any:
    """The recording version of `function`; one that is recording already is given back as it is."""
    if getattr(function, "__agentlightning_step__", None):
        return function
    if not callable(function):
        raise TypeError(
            f"@step takes a function, not a {type(function).__name__}. "
            "Put it under @classmethod, @staticmethod or @property, next to the def."
        )
    label = name or getattr(function, "__name__", type(function).__name__)
    wrapper = _wrapper_for(function)(function, _Tool(function, kind, label))
    cast(Any, wrapper).__agentlightning_step__ = label
    return wrapper


class _Use:
    """One call of a marked function inside a rollout, and its result, perhaps known without running it."""

    def __init__(self, scope: Scope, name: str, span: Span) -> None:
        self.result: Any = None
        self.is_answered = False
        self._has_claim = False
        self._name, self._span = name, span
        self._tools = scope.tools or ToolModes()
        self._mode = self._tools.of(name)

    def look(self) -> Future[None] | None:
        """Find the answer, if the function must not run; a future says that another caller runs it just now."""
        name, arguments, tape = self._name, self._span.arguments, self._tools.tape
        if self._mode.mode == "stub":
            self._answer(own_copy(self._mode.returns))
        elif self._mode.mode in ("record", "replay") and (name, arguments) in tape:
            self._answer(tape.get(name, arguments))
        elif self._mode.mode == "replay":
            raise ReplayMiss(f"tool {name!r} is in replay mode and was never recorded with {arguments!r}")
        elif self._mode.mode == "record":
            running = tape.claim(name, arguments)
            self._has_claim = running is None
            return running
        return None

    def ran(self, result: Any) -> None:
        self.result = result
        if self._mode.mode == "record" and not inspect.isawaitable(result):
            self._tools.tape.put(self._name, self._span.arguments, result)

    def over(self) -> None:
        if self._has_claim:
            self._tools.tape.release(self._name, self._span.arguments)

    def _answer(self, result: Any) -> None:
        self.result, self.is_answered = result, True


class _Tool:
    """A marked function as its wrappers know it."""

    def __init__(self, function: Any, kind: StepKind, name: str) -> None:
        self._kind: StepKind = kind
        self._name = name
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin
            self._signature = None

    def scope(self) -> Scope | None:
        """The rollout to record in; None: just run. A tool that must not run freely is stopped after its rollout."""
        scope = current_scope()
        if scope is None or scope.recorder is None:
            return None
        if scope.is_closed:
            if scope.tools is not None and scope.tools.of(self._name).mode != "live":
                scope.admit()
            return None
        return scope

    @contextmanager
    def used(self, scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[_Use]:
        """One call as a step: opened now, ended with the block."""
        assert scope.recorder is not None
        agent = current_agent() or scope.agent
        arguments = self._arguments(args, kwargs)
        span = scope.recorder.open_span(kind=self._kind, agent=agent, name=self._name, arguments=arguments)
        use = _Use(scope, self._name, span)
        try:
            yield use
        except GeneratorExit:
            span.end(use.result, is_partial=True)
            raise
        except BaseException as error:
            span.end(error=error)
            raise
        else:
            span.end(use.result, is_simulated=use.is_answered)
        finally:
            use.over()

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by parameter name, so that `f(1)` and `f(x=1)` are the same call."""
        if self._signature is None:
            return {"args": list(args), **kwargs}
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the function is about to say so itself
            return {"args": list(args), **kwargs}
        return {key: value for key, value in bound.arguments.items() if key not in ("self", "cls")}


def _wrapper_for(function: Any) -> Callable[[Any, _Tool], Callable[..., Any]]:
    for called in (function, getattr(function, "__call__", None)):  # noqa: B004 - an object's own async __call__
        if inspect.iscoroutinefunction(called):
            return _recording_async
        if inspect.isasyncgenfunction(called):
            return _recording_async_generator
        if inspect.isgeneratorfunction(called):
            return _recording_generator
    return _recording


def _recording(function: Any, tool: _Tool) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = tool.scope()
        if scope is None:
            return function(*args, **kwargs)
        with tool.used(scope, args, kwargs) as use:
            while running := use.look():
                running.result()
            if not use.is_answered:
                use.ran(function(*args, **kwargs))
        return use.result

    return call


def _recording_async(function: Any, tool: _Tool) -> Callable[..., Any]:
    @wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        scope = tool.scope()
        if scope is None:
            return await function(*args, **kwargs)
        with tool.used(scope, args, kwargs) as use:
            while running := use.look():
                await asyncio.wait([asyncio.wrap_future(running)])
            if not use.is_answered:
                use.ran(await function(*args, **kwargs))
        return use.result

    return call


def _recording_generator(function: Any, tool: _Tool) -> Callable[..., Any]:
    def run(scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
        with tool.used(scope, args, kwargs) as use:
            use.look()  # never waits: whoever consumes two such generators in turn would wait for itself
            if use.is_answered:
                yield from _items(use.result)
                return None
            items = use.result = []
            value = yield from _Noting(function(*args, **kwargs), items)
            use.ran(items)
            return value

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = tool.scope()
        return function(*args, **kwargs) if scope is None else run(scope, args, kwargs)

    return call


def _recording_async_generator(function: Any, tool: _Tool) -> Callable[..., Any]:
    async def run(scope: Scope, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncGenerator[Any, Any]:
        with tool.used(scope, args, kwargs) as use:
            use.look()
            if use.is_answered:
                for item in _items(use.result):
                    yield item
                return
            items, sent, generator = [], None, function(*args, **kwargs)
            use.result = items
            try:
                while True:
                    items.append(await generator.asend(sent))
                    sent = yield items[-1]
            except StopAsyncIteration:
                use.ran(items)
            finally:
                await generator.aclose()

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        scope = tool.scope()
        return function(*args, **kwargs) if scope is None else run(scope, args, kwargs)

    return call


class _Noting(Generator[Any, Any, Any]):
    """A generator that keeps what another one yields; `yield from` hands sends, throws and closing through."""

    def __init__(self, generator: Generator[Any, Any, Any], items: list[Any]) -> None:
        self._generator, self._items = generator, items

    def send(self, value: Any, /) -> Any:
        self._items.append(item := self._generator.send(value))
        return item

    def throw(self, *error: Any) -> Any:
        self._items.append(item := self._generator.throw(*error))
        return item

    def close(self) -> None:
        self._generator.close()


def _items(result: Any) -> list[Any]:
    return list(result) if isinstance(result, list | tuple) else [result]
