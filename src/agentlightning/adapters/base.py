"""What an adapter must say about an agent: is it mine, what is it called, how is it run, which tools has it."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import msgspec

from agentlightning.adapters import watching
from agentlightning.data.structure import Member, Structure
from agentlightning.errors import AgentError, near_miss
from agentlightning.interception.fingerprint import can_be_known

_MAKES = re.compile(
    r"(?i)^(?!run|main|start|ask)((create|make|build|get|new)_\w*|\w*(team|crew|graph|agent|chain|flow|app|workflow))$"
)
_RUNS = ("__call__", "run", "answer", "ask", "invoke", "chat", "respond", "execute", "forward", "solve")
"""What people call the method that runs an agent."""


class Adapter:
    """One kind of agent. Subclasses import their framework inside methods only."""

    name: ClassVar[str] = ""
    entry_points: ClassVar[tuple[str, ...]] = ()
    """Methods by which users run such an object; on a wrapped agent they run it steered."""
    knows_all_members: ClassVar[bool] = False
    """Does `members` name everybody who can speak? Then any other target is a mistake."""
    max_concurrency: int | None = None
    """How many rollouts may run at once; None: any number. 1 for an object that holds state and cannot be copied."""

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        """Is this object surely of this kind? Must not import a framework that is not loaded yet."""
        raise NotImplementedError

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        """Why this object cannot be run as this kind, or None; for a user who named the kind."""
        raise NotImplementedError

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    @property
    def surface(self) -> Any:
        """The object whose methods and attributes the wrapped agent shows."""
        return self.agent

    def label(self) -> str:
        """A readable id for the agent."""
        raise NotImplementedError

    def members(self) -> list[str]:
        """Names of the agents inside, as far as they are known before the first run: what `target_agents` may name."""
        return []

    def parts(self) -> list[Any]:
        """Objects this one is made of; in a file that holds them too, this one is the agent."""
        return []

    def health(self) -> list[str]:
        """What will not work as it should with this object or version, one sentence each. Empty: all is well."""
        return []

    def tools(self) -> Mapping[str, str]:
        """Tools known before the first run: name → description."""
        return {}

    def tool_servers(self) -> list[str]:
        """Where more tools come from, that are known only while it runs (MCP servers)."""
        return []

    def structure(self) -> Structure:
        """How it is built, for people. Members with instructions can be told apart by them when all else fails."""
        return Structure(self.label(), self.name, [Member(name) for name in self.members()], tools=dict(self.tools()))

    def attach_tools(self, names: Mapping[str, Any]) -> None:
        """Make the named tools' calls visible (and their modes effective). AgentError names one that is not there."""
        if names and not self.tool_servers():
            known = self.tools()
            unknown = [name for name in names if name not in known]
            if not known:
                raise AgentError(f"agents of type {self.name!r} have no tools that can be set: {', '.join(names)}")
            if unknown:
                raise AgentError(
                    f"tools: {self.label()} has no tool {unknown[0]!r}.{near_miss(unknown[0], known)} "
                    f"Its tools: {', '.join(sorted(known))}."
                )

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the agent as its user does; may give back a coroutine, a generator or an async generator."""
        raise NotImplementedError

    def invoke(self, task_input: str | dict[str, Any]) -> Any:
        """Run the agent on a task's input: text is its one argument, fields are its keyword arguments."""
        if isinstance(task_input, dict):
            return self.call(**task_input)
        return self.call(task_input)


class ObjectAdapter(Adapter):
    """An object of a framework, or a function without parameters that makes one (a factory).

    Subclasses say `is_mine`, `fresh_copy` and `run`. Every invocation runs on an instance of its own where one can be
    made: by the factory, else by `fresh_copy`.
    """

    wants: ClassVar[str] = "an object of the framework"
    """What to wrap, for whoever wrapped something else."""

    def __init__(self, agent: Any) -> None:
        super().__init__(agent)
        self.factory = None if self.is_mine(agent) else agent
        self.sample = agent if self.factory is None else made_by(agent)
        """An instance to look at; never run when there is a factory."""
        self.why_not_copied = "" if self.factory else self._try_copy()
        if self.why_not_copied:
            self.max_concurrency = 1

    @property
    def surface(self) -> Any:
        return self.sample

    @classmethod
    def is_mine(cls, thing: Any) -> bool:
        """Is it an instance (not a factory) this adapter can run? Must not import the framework."""
        raise NotImplementedError

    @classmethod
    def is_seldom_alone(cls, thing: Any) -> bool:
        """Can it be run, but is it hardly the agent where its file holds anything else that could be (a chat model)?"""
        return False

    @classmethod
    def recognises(cls, agent: Any) -> bool:
        return cls.is_mine(agent)

    @classmethod
    def refusal(cls, agent: Any) -> str | None:
        if cls.is_mine(agent):
            return None
        if not is_factory(agent):
            return f"a {type(agent).__name__} is not {cls.wants}, nor a function without parameters that makes one"
        made = made_by(agent)
        if cls.is_mine(made):
            return None
        return f"{_called(agent)}() made a {type(made).__name__}, which is not {cls.wants}"

    def health(self) -> list[str]:
        lines = watching.missing(self.name)
        if lines and len(members := self.structure().members) > 1:
            unknown = [member.name for member in members if not can_be_known(member.instructions)]
            but = f", but not {', '.join(unknown)}" if unknown else ""
            lines.append(f"where that fails, its agents are told apart by their instructions{but}.")
        lines += [
            f"what {server} offers is known only while it runs, so a misspelt mode for a tool goes unnoticed."
            for server in self.tool_servers()
        ]
        if self.why_not_copied:
            remedy = "Wrap a function that makes it (def create_agent(): …) and they run side by side."
            lines.append(f"{self.why_not_copied}. Its rollouts run one at a time. {remedy}")
        return lines

    def fresh_copy(self) -> Any:
        """A copy of the sample with the state it was wrapped in; it may raise anything when none can be made."""
        return self.sample

    def run_original(self, task_input: str | dict[str, Any]) -> Any:
        """Run the very object, since no copy can be made of it."""
        return self.run(self.sample, task_input)

    def run(self, instance: Any, task_input: str | dict[str, Any]) -> Any:
        """Run one instance on a task's input; the answer, or an awaitable of it."""
        raise NotImplementedError

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs:
            return self.invoke(args[0])
        if kwargs and not args:
            return self.invoke(kwargs)
        raise TypeError(f"{self.label()} takes one input, or the input's fields as keyword arguments")

    def invoke(self, task_input: str | dict[str, Any]) -> Any:
        if self.factory is None:
            return self.run_original(task_input) if self.why_not_copied else self.run(self.fresh_copy(), task_input)
        made = self.factory()
        return self._run_when_made(made, task_input) if inspect.isawaitable(made) else self.run(made, task_input)

    def _try_copy(self) -> str:
        try:
            self.fresh_copy()
        except Exception as error:  # noqa: BLE001 - whatever the object's own code raises
            reason = str(error) if isinstance(error, AgentError) else f"{type(error).__name__}: {error}"
            return f"{self.label()} cannot be copied ({reason})"
        return ""

    async def _run_when_made(self, made: Any, task_input: str | dict[str, Any]) -> Any:
        result = self.run(await made, task_input)
        return await result if inspect.isawaitable(result) else result


def is_factory(thing: Any) -> bool:
    """Can it be called without arguments? A function or class that may make an agent."""
    if not callable(thing):
        return False
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


def looks_like_factory(thing: Any) -> bool:
    """A function without parameters (or a class) whose name says that it makes an agent; it may be called to find out.

    One with parameters, be they optional, may as well be the agent itself.
    """
    if not is_factory(thing) or _MAKES.match(getattr(thing, "__name__", "")) is None:
        return False
    return inspect.isclass(thing) or not inspect.signature(thing).parameters


def maker_of(kind: type, method: str = "") -> Callable[[], Any] | None:
    """A factory of what runs an object of this class: the object itself, or a method of it. None: there is none.

    Which method is asked for, or the object's `__call__`, or the only method with a usual name (`run`, `answer`, …).
    """
    usual = [name for name in _RUNS if inspect.isfunction(inspect.getattr_static(kind, name, None))]
    wanted = method or (usual[0] if "__call__" in usual or len(usual) == 1 else "")
    if not wanted or not is_factory(kind):
        return None

    def make() -> Any:
        return kind() if wanted == "__call__" else getattr(kind(), wanted)

    make.__name__ = f"make_{kind.__name__}"
    make.__wrapped__ = getattr(kind, wanted)  # pyright: ignore[reportFunctionMemberAccess] - whose module is the agent's
    make.__signature__ = inspect.Signature()  # pyright: ignore[reportFunctionMemberAccess]
    return make


def made_by(factory: Any) -> Any:
    """What a factory makes, for looking at it. An async one runs to its end on a loop of its own."""
    made = factory()
    if not inspect.isawaitable(made):
        return made
    with ThreadPoolExecutor(1) as executor:  # a loop may be running in this thread
        return executor.submit(asyncio.run, _awaited(made)).result()


async def _awaited(made: Any) -> Any:
    return await made


def loaded(*names: str) -> list[Any]:
    """Classes by dotted path, of modules that are imported already: `is it one of these?` imports nothing."""
    found: list[Any] = []
    for name in names:
        module, _, attribute = name.rpartition(".")
        if (kind := getattr(sys.modules.get(module), attribute, None)) is not None:
            found.append(kind)
    return found


def _called(thing: Any) -> str:
    return getattr(thing, "__name__", type(thing).__name__)


def text_of_input(task_input: str | dict[str, Any]) -> str:
    """A task's input as the one text that agents who only take text are given: its only field's, else all as JSON."""
    if isinstance(task_input, str):
        return task_input
    values = list(task_input.values())
    return values[0] if len(values) == 1 and isinstance(values[0], str) else msgspec.json.encode(task_input).decode()


def bind_input(function: Any, task_input: str | dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a task's input meets a function's parameters: by name where they fit, else as the one argument."""
    if not isinstance(task_input, dict):
        return (task_input,), {}
    try:
        inspect.signature(function).bind(**task_input)
    except TypeError:
        return (task_input,), {}
    except ValueError:  # a builtin without a signature
        return (task_input,), {}
    return (), dict(task_input)
