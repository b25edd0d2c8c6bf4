"""`${NAME}` in a configuration's texts: filled in from the environment, and never written where the run is kept.

`${NAME:-text}` has a default for a variable that is not set or empty; `$${` stands for the two characters themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from agentlightning.errors import ConfigError, near_miss
from agentlightning.trainer.config_yaml import KeyPath, parse_scalar

_VARIABLE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|(?P<broken>\$\{[^}]{0,40}\}?)"
)
_WHOLE = re.compile(r"\$\{[^}]*\}")
_HARMLESS_BESIDE = re.compile(r"(?:bearer|basic|token)? *", re.IGNORECASE)
"""What may stand beside a variable in a header without being a secret itself."""
_MAX_DIGITS = 7
"""A longer number could be a password."""

Written = Mapping[KeyPath, tuple[str, str]]
"""Path → the text as it was written, and what it came to. Only texts that hold a variable."""


def fill_in(data: Any, env: Mapping[str, str], place: Callable[[KeyPath], str | None]) -> tuple[Any, Written]:
    """The data with every variable's value in its place, and what was written there.

    Raises ConfigError, with `place` of the text and the variable's name, for one that is not set and has no default.
    """
    written: dict[KeyPath, tuple[str, str]] = {}

    def walk(node: Any, path: KeyPath) -> Any:
        if isinstance(node, dict):
            return {key: walk(value, (*path, key)) for key, value in cast(dict[str, Any], node).items()}
        if isinstance(node, list):
            return [walk(value, (*path, index)) for index, value in enumerate(cast(list[Any], node))]
        if not isinstance(node, str) or "${" not in node:
            return node
        value = _VARIABLE.sub(lambda found: _value(found, env, path, place(path)), node)
        if any(found["name"] for found in _VARIABLE.finditer(node)):
            written[path] = (node, value)
        return value

    return walk(data, ()), written


def escaped(data: Any) -> Any:
    """The data with its texts as a file would have to write them."""
    if isinstance(data, dict):
        return {key: escaped(value) for key, value in cast(dict[str, Any], data).items()}
    if isinstance(data, list):
        return [escaped(value) for value in cast(list[Any], data)]
    return data.replace("${", "$${") if isinstance(data, str) else data


def as_written(data: dict[str, Any], written: Written) -> dict[str, Any]:
    """The data, escaped, with variables back in the place of what they came to; numbers and true or false stay.

    So the configuration of a run can be read again, and no secret that came from the environment is kept with it.
    """
    data = escaped(data)
    for path, (text, value) in written.items():
        *parents, last = path
        node: Any = data
        for key in parents:
            node = _child(node, key)
        if _child(node, last) in (escaped(value), _scalar(value)) and not is_plain_number(value):
            node[last] = text
    return data


def is_whole(text: str) -> bool:
    """Is the text nothing but one variable? Then it may stand for a number, or true or false."""
    return _WHOLE.fullmatch(text) is not None


def names_only(text: str) -> bool:
    """Does a header's text hold variables without defaults and nothing else that could be secret?"""
    rest = re.sub(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}", "", text)
    return rest != text and _HARMLESS_BESIDE.fullmatch(rest) is not None


def is_plain_number(value: str) -> bool:
    """A short number, or true or false: nothing to hide."""
    return not isinstance(_scalar(value), str | None) and len(value) <= _MAX_DIGITS


def _scalar(value: str) -> Any:
    try:
        return parse_scalar(value, "")
    except ConfigError:
        return value


def _child(node: Any, key: str | int) -> Any:
    if isinstance(node, dict):
        return cast(dict[Any, Any], node).get(key)
    if isinstance(node, list) and isinstance(key, int) and key < len(cast(list[Any], node)):
        return node[key]
    return None


def _value(found: re.Match[str], env: Mapping[str, str], path: KeyPath, place: str | None) -> str:
    if found[0] == "$${":
        return "${"
    where = f"{place}: " if place else ""
    key = ".".join(map(str, path))
    if found["broken"]:
        raise ConfigError(
            f"{where}{key} holds {found['broken']!r}, which names no variable. Write ${{NAME}} or ${{NAME:-default}}; "
            "for the characters themselves, $${"
        )
    name, default = found["name"], found["default"]
    if env.get(name) or (name in env and default is None):
        return env[name]
    if default is not None:
        return default.removeprefix(":-")
    raise ConfigError(
        f"{where}{key} needs the environment variable {name}, which is not set.{near_miss(name, env)} "
        f"Set it, or write a default: ${{{name}:-…}}"
    )
