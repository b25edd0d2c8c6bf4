"""Plain Python: functions, bound methods and callable objects, sync, async and generators; and what makes one."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from types import CellType, ModuleType
from typing import Any

from agentlightning.adapters import module_tools, watching
from agentlightning.adapters.base import Adapter, bind_input, looks_like_factory, made_by, maker_of
from agentlightning.data.structure import Link, Member, Structure
from agentlightning.errors import AgentError


class FunctionAdapter(Adapter):
    """Any callable that takes the task's input and gives back its answer."""

    name = "function"

    @property
    def knows_all_members(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Unless a framework's team speaks inside it, nobody does but itself and the wrapped functions beside it."""
        return not watching.is_anyone_heard()

    def __init__(self, agent: Any) -> None:
        super().__init__(agent)
        maker = maker_of(agent) if inspect.isclass(agent) else agent
        self.factory = maker if looks_like_factory(maker) else None
        """Makes what is run, anew for every run."""
        self.sample = agent if self.factory is None else made_by(self.factory)
        if not callable(self.sample):
            kind = type(self.sample).__name__
            raise AgentError(f"{_name(agent)}() made a {kind}, which cannot be called; it must make the agent.")

    @property
    def surface(self) -> Any:
        return self.sample

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return callable(agent) and (not inspect.isclass(agent) or maker_of(agent) is not None)

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        if inspect.isclass(agent) and maker_of(agent) is None:
            return f"{agent.__name__} is a class; wrap an instance that can be called, or one of its methods"
        if not callable(agent):
            return f"a {type(agent).__name__} cannot be called; wrap the function that runs your agent"
        if not inspect.isclass(agent) and not looks_like_factory(agent) and not _takes_input(agent):
            return f"{_name(agent)}() takes no argument; it must take the task's input, such as a question"
        return None

    def label(self) -> str:
        if self.factory is not None and inspect.ismethod(self.sample):
            return type(self.sample.__self__).__name__
        return _name(self.sample)

    def members(self) -> list[str]:
        """Functions it can see that are wrapped as agents of their own; called inside, they speak as themselves."""
        function = underlying(self.sample)
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if cell != CellType()]
        values = [*getattr(function, "__globals__", {}).values(), *cells]
        marks = [inspect.getattr_static(value, "__agentlightning_agent__", None) for value in values]
        return [name for name in marks if isinstance(name, str)]

    def structure(self) -> Structure:
        others = self.members()
        members = [Member(self.label(), kind="function"), *(Member(name, kind="function") for name in others)]
        links = [Link(self.label(), name, "calls") for name in others]
        return Structure(self.label(), self.name, members, links, dict(self.tools()))

    def health(self) -> list[str]:
        """A framework's team may speak inside it."""
        return watching.missing_anywhere()

    def tools(self) -> Mapping[str, str]:
        function = underlying(self.sample)
        return module_tools.find_schemas(function) | module_tools.find_tool_objects(function)

    def attach_tools(self, names: Mapping[str, Any]) -> None:
        wanted = set(names)
        module_tools.attach(underlying(self.sample), known=set(self.tools()) | wanted, required=wanted)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.factory is None:
            return self.agent(*args, **kwargs)
        made = self.factory()
        return _when_made(made, args, kwargs) if inspect.isawaitable(made) else made(*args, **kwargs)

    def invoke(self, task_input: str | dict[str, Any]) -> Any:
        args, kwargs = bind_input(self.sample, task_input)
        return self.call(*args, **kwargs)


async def _when_made(made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = (await made)(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def underlying(agent: Any) -> Any:
    """The plain function whose module holds the tools: the agent, the function under a method or a `__call__`."""
    target = inspect.unwrap((maker_of(agent) if inspect.isclass(agent) else None) or agent)
    target = getattr(target, "__func__", target)
    return target if inspect.isfunction(target) else type(target).__call__


def uses_package(agent: Any, package: str, names: Collection[str] = ()) -> bool:
    """Does the module of a callable hold something of `package` (the module, a client, a class)? `names`: of these."""
    values = getattr(underlying(agent), "__globals__", {}).values()
    return any(_comes_from(value, package) and (not names or _kind(value) in names) for value in list(values))


_SDKS = ("openai", "anthropic", "litellm")


def sdk_refusal(agent: Any, package: str, example: str) -> str | None:
    """Why it is no agent written with this SDK: it is the SDK's own client, or its module uses another SDK."""
    if (type(agent).__module__ or "").split(".")[0] == package:
        return (
            f"this is a client of {package} ({type(agent).__name__}), not an agent. "
            f"Wrap the function that uses it: def agent(question): … {example}"
        )
    if not callable(agent) or uses_package(agent, package):
        return None
    found = [other for other in _SDKS if uses_package(agent, other)]
    return f"{_name(agent)}() uses {' and '.join(found)}, not {package}" if found else None


def _comes_from(value: Any, package: str) -> bool:
    module = value.__name__ if isinstance(value, ModuleType) else getattr(type(value), "__module__", "") or ""
    origin = getattr(value, "__module__", None) if inspect.isclass(value) or inspect.isfunction(value) else None
    return any(isinstance(name, str) and name.split(".")[0] == package for name in (module, origin))


def _kind(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else type(value).__name__


def _name(agent: Any) -> str:
    return getattr(agent, "__name__", None) or type(agent).__name__


def _takes_input(agent: Any) -> bool:
    try:
        parameters = inspect.signature(agent).parameters.values()
    except ValueError:  # a builtin without a signature: believe it
        return True
    return any(
        parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty for parameter in parameters
    )
