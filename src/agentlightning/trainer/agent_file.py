"""The file an agent is in: imported as if it were run, and the object in it that is the agent.

What is named is taken. Else the obvious one is: a wrapped agent, one called `agent`, a framework's object, a function
or an object that can be called and is not used by another there, a class of such. Several of a sort are listed.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from agentlightning.adapters.base import looks_like_factory, maker_of
from agentlightning.adapters.module_tools import find_schemas
from agentlightning.adapters.wrap import WrappedAgent, framework_objects, is_seldom_alone
from agentlightning.errors import AgentError, AgentLightningError, ConfigError, near_miss


def module_of(path: str, base_dir: Path) -> tuple[ModuleType, str]:
    """The module of `file.py[:name]` or `package.module[:name]`, and the name. ConfigError, AgentError."""
    source, _, name = path.rpartition(":") if ":" in path and not path.endswith(".py") else (path, "", "")
    if not source.endswith(".py"):
        return _import_module(source, path), name
    return _import_file((base_dir / Path(source).expanduser()).resolve(), path), name


def named(module: ModuleType, name: str, path: str) -> Any:
    """The object of that name. The method of a class (`Bot.answer`) stands for what makes one and gives its method."""
    owner, found = None, module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [entry for entry in dir(found) if not entry.startswith("_")]
            raise ConfigError(f"{path!r}: there is no {name!r} in it.{near_miss(part, known)}")
        owner, found = found, getattr(found, part)
    if inspect.isclass(owner) and inspect.isfunction(inspect.getattr_static(owner, name.rpartition(".")[2])):
        return maker_of(owner, name.rpartition(".")[2])
    return found


def obvious(module: ModuleType, path: str, kind: str | None) -> Any:
    """The one object of the module that can only be the agent. AgentError listing them when there are several."""
    wrapped = {name: value for name, value in vars(module).items() if isinstance(value, WrappedAgent)}
    if len(wrapped) == 1:
        return next(iter(wrapped.values()))
    found = getattr(module, "agent", None)
    if not wrapped and ((callable(found) and not inspect.isclass(found)) or framework_objects({"agent": found}, kind)):
        return found
    candidates = wrapped or _candidates(module, kind)
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise AgentError(
            f"{path!r} holds no agent: define a function that takes the task's input and returns the answer."
        )
    names = ", ".join(f"{path}:{name}" for name in candidates)
    raise AgentError(f"{path!r} holds {len(candidates)} objects that could be the agent. Say which: {names}")


def reward_of(module: ModuleType) -> Callable[..., Any] | None:
    """The file's own reward function."""
    found = getattr(module, "reward", None)
    is_ours = getattr(found, "__module__", "").startswith("agentlightning.")  # the imported decorator, not a reward
    return found if callable(found) and not is_ours else None


def _candidates(module: ModuleType, kind: str | None) -> dict[str, Any]:
    """A framework's objects, else the module's own code, which also comes before a chat model that it uses."""
    found = framework_objects(vars(module), kind)
    if found and (kind is not None or not all(is_seldom_alone(value) for value in found.values())):
        return found
    return _own_code(module) or found


def _own_code(module: ModuleType) -> dict[str, Any]:
    """What the module itself defines and could be an agent: factories, or functions and objects, or else classes."""
    own = {
        name: value
        for name, value in vars(module).items()
        if _is_of(module, value) and not name.startswith("_") and name not in ("reward", "tasks", "main")
    }
    functions = {name: value for name, value in own.items() if inspect.isfunction(value) and not _is_tool(name, value)}
    factories = {name: value for name, value in functions.items() if looks_like_factory(value)}
    objects = {name: value for name, value in own.items() if not inspect.isclass(value) and callable(value)}
    objects = {name: value for name, value in objects.items() if not inspect.isroutine(value)}
    classes = {name: value for name, value in own.items() if inspect.isclass(value) and callable(value)}
    runnable = {name: value for name, value in classes.items() if maker_of(value) is not None}
    return factories or _not_used_by_others(functions | objects) or runnable


def _is_of(module: ModuleType, value: Any) -> bool:
    kind = value if inspect.isroutine(value) or inspect.isclass(value) else type(value)
    return getattr(kind, "__module__", None) == module.__name__


def _is_tool(name: str, function: Any) -> bool:
    return name in find_schemas(function) or bool(getattr(function, "__agentlightning_step__", None))


def _not_used_by_others(candidates: Mapping[str, Any]) -> dict[str, Any]:
    """A function or an object that the code of another candidate names is a part of that one."""
    used = {name: {each for code in _code_of(value) for each in _names(code)} for name, value in candidates.items()}
    parts = {name for name in candidates if any(name in names for other, names in used.items() if other != name)}
    return {name: value for name, value in candidates.items() if name not in parts} or dict(candidates)


def _code_of(value: Any) -> list[CodeType]:
    """Of a function, or of an object's methods."""
    functions = [value] if inspect.isfunction(value) else vars(type(value)).values()
    return [each.__code__ for each in functions if inspect.isfunction(each)]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _import_module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except AgentLightningError:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            hint = f" For a file write ./{name.replace('.', '/')}.py"
            raise ConfigError(f"{path!r}: there is no module {error.name!r}.{hint}") from error
        raise _broken(path, error) from error


def _import_file(file: Path, path: str) -> ModuleType:
    if not file.is_file():
        folder = file.parent if file.parent.is_dir() else Path.cwd()
        hint = near_miss(file.name, [entry.name for entry in folder.glob("*.py")])
        raise ConfigError(f"there is no file {path!r} (looked at {file}).{hint}")
    name = f"agentlightning_user_{file.stem}"
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))  # the file's neighbours are its imports, as if it were run
    try:
        spec.loader.exec_module(module)
    except AgentLightningError:
        del sys.modules[name]
        raise
    except BaseException as error:
        del sys.modules[name]
        raise _broken(path, error) from error
    return module


def _broken(path: str, error: BaseException) -> AgentError:
    return AgentError(f"{path!r} cannot be imported: {type(error).__name__}: {error}")
