"""`extends: base.yaml`: one configuration laid over another, each key remembering the file and line it came from.

A mapping is merged into a mapping; anything else (a name, a list) takes the place of what the base says. Relative paths
start at the folder of the file they stand in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from agentlightning.errors import ConfigError
from agentlightning.trainer.config_file import ConfigFile, read_config_file
from agentlightning.trainer.config_yaml import KeyPath
from agentlightning.trainer.tasks import LIVE

EXTENDS = "extends"

_PATHS = (("trainer", "data_dir"), ("trainer", "output_dir"), ("store",), ("store", "address"))
_TASKS = ("train", "validation", "test")


class Origin(NamedTuple):
    """Where a key stands."""

    file: str
    line: int


class Layers(NamedTuple):
    """What a file and those it extends come to."""

    name: str
    """Of the file that was asked for."""
    data: dict[str, Any]
    origins: dict[KeyPath, Origin]

    def place(self, path: KeyPath) -> str:
        """`base.yaml line 9` for the deepest part of a key path that stands in a file; the name alone for none."""
        for end in range(len(path), 0, -1):
            if found := self.origins.get(path[:end]):
                return f"{found.file} line {found.line}"
        return self.name


def read_layers(path: str | Path) -> Layers:
    """A configuration file with everything it extends. Raises ConfigError, with file and line, also for a circle."""
    return _layers(read_config_file(path), Path(path).expanduser(), ())


def layers_of(data: Mapping[str, Any], base_dir: Path) -> Layers:
    """The same for plain data, whose `extends` starts at `base_dir`."""
    return _layers(ConfigFile("", dict(data), {}), base_dir / "(these settings)", ())


def _layers(file: ConfigFile, path: Path, chain: tuple[tuple[Path, str], ...]) -> Layers:
    data = {key: value for key, value in file.data.items() if key != EXTENDS}
    own = Layers(file.name, data, {key: Origin(file.name, line) for key, line in file.lines.items()})
    if (base := file.data.get(EXTENDS)) is None:
        return own
    place = own.place((EXTENDS,))
    where = f"{place}: " if place else ""
    if not isinstance(base, str | os.PathLike):
        raise ConfigError(f"{where}extends must be the path of one configuration file, got {base!r:.60}")
    below = _read_base(file, path, os.fspath(base), where, chain)
    folder = (path.parent / os.fspath(base)).expanduser().parent
    return _merged(_moved(below, _way(folder, path.parent)), own)


def _read_base(file: ConfigFile, path: Path, base: str, where: str, chain: tuple[tuple[Path, str], ...]) -> Layers:
    chain = (*chain, (path.resolve(), file.name or "these settings"))
    target = path.parent / Path(base).expanduser()
    if target.resolve() in [known for known, _ in chain]:
        shown = " → ".join([*(name for _, name in chain), base])
        raise ConfigError(f"{where}extends goes in a circle: {shown}. Take one of these lines out.")
    try:
        found = read_config_file(target)
    except ConfigError as error:
        raise ConfigError(f"{where}extends {base!r}: {error}") from error
    return _layers(found._replace(name=os.path.normpath(target)), target, chain)


def _merged(below: Layers, above: Layers) -> Layers:
    origins = dict(below.origins)

    def lay(low: Any, high: Any, path: KeyPath) -> Any:
        low = _as_mapping(low, path) if isinstance(high, dict) else low
        if isinstance(low, dict) and isinstance(high, dict):
            low, high = cast(dict[str, Any], low), cast(dict[str, Any], high)
            return {**low, **{key: lay(low.get(key), value, (*path, key)) for key, value in high.items()}}
        for known in [known for known in origins if known[: len(path)] == path]:
            del origins[known]
        return high

    data = lay(below.data, above.data, ())
    return Layers(above.name, data, {**origins, **above.origins})


def _as_mapping(value: Any, path: KeyPath) -> Any:
    """The mapping a short form stands for, so that a key of it can be changed alone."""
    if isinstance(value, str | list):
        if path == ("tasks",):
            return {"train": value}
        if path == ("store",):
            return {"address": value}
        if len(path) == 2 and path[0] == "models":
            return {"model": value}
    return value


def _way(folder: Path, start: Path) -> str:
    way = os.path.relpath(folder.resolve(), start.resolve())
    return "" if way == "." else way


def _moved(layers: Layers, way: str) -> Layers:
    """The same with its relative paths starting at the folder of the file that extends it."""
    if not way:
        return layers
    data = layers.data
    for path in _PATHS:
        data = _at(data, path, lambda value: _prefixed(value, way))
    for path in [("tasks",), *(("tasks", split) for split in _TASKS)]:
        data = _at(data, path, lambda value: value if value in ("none", LIVE) else _prefixed(value, way))
    for path in (("agent", "path"), ("reward",)):
        data = _at(data, path, lambda value: _code(value, way))
    data = _at(data, ("algorithm",), lambda value: _algorithms(value, way))
    return layers._replace(data=data)


def _at(node: Any, path: tuple[str, ...], change: Callable[[Any], Any]) -> Any:
    if not path:
        return change(node)
    if not isinstance(node, dict) or path[0] not in node:
        return cast(Any, node)
    return {**node, path[0]: _at(node[path[0]], path[1:], change)}


def _prefixed(value: Any, way: str) -> Any:
    """A relative path, started elsewhere. Addresses, absolute paths, modules and variables stay."""
    if not isinstance(value, str) or not value or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:|[/~$]|[A-Za-z]:\\", value):
        return _code(value, way) if isinstance(value, str) else value
    return f"{way}/{value.removeprefix('./')}"


def _code(value: Any, way: str) -> Any:
    """`file.py:name` started elsewhere; a name or a module's path is left alone."""
    is_file = isinstance(value, str) and re.match(r"[^/~$].*\.py(:|$)", value)
    return f"{way}/{value.removeprefix('./')}" if is_file else value


def _algorithms(value: Any, way: str) -> Any:
    if isinstance(value, list):
        return [_algorithms(entry, way) for entry in cast(list[Any], value)]
    if not isinstance(value, dict):
        return _code(value, way)
    stage: Any = cast(Any, value)
    for path in (("name",), ("reward_function",), ("params", "reward_function")):
        stage = _at(stage, path, lambda given: _code(given, way))
    return stage
