"""`{name: numeric_match, params: {relative_tolerance: 0.1}}`: a reward with some of its settings given.

A reward is a function of (task, trajectory) whose further parameters are its settings, or a class that is made with
them and whose instances are such functions. `base_dir`, where a reward asks for it, is where relative paths start.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from agentlightning.errors import ConfigError, near_miss
from agentlightning.rewards.base import Unbound

_BASE_DIR = "base_dir"


def with_params(found: Any, name: str, params: Mapping[str, Any], base_dir: Path) -> Any:
    """The reward ready to judge. ConfigError for a setting it does not have, of the wrong type, or that it lacks."""
    is_class = inspect.isclass(found)
    if not callable(found):
        raise ConfigError(f"reward {name!r} is a {type(found).__name__}, not a function of (task, trajectory).")
    if not params and not is_class:
        known = _settings(found, is_class=False)
        _check_required(name, known, {})
        return functools.partial(found, base_dir=base_dir) if _BASE_DIR in known else found
    known = _settings(found, is_class=is_class)
    hints = _hints(found, is_class=is_class)
    given = {key: _checked(name, key, value, known, hints) for key, value in params.items()}
    _check_required(name, known, given)
    if _BASE_DIR in known and _BASE_DIR not in given:
        given[_BASE_DIR] = base_dir
    if not is_class:
        return functools.partial(found, **given)
    made = found(**given)
    if not callable(made) and not isinstance(made, Unbound):
        raise ConfigError(f"reward {name!r}: a {found.__name__} cannot be called with (task, trajectory).")
    return made


def _settings(found: Any, *, is_class: bool) -> dict[str, inspect.Parameter]:
    """Parameters beyond the task and the trajectory (of a class: all it is made with), by name."""
    try:
        parameters = list(inspect.signature(found).parameters.values())
    except (TypeError, ValueError):  # a builtin, which has no settings
        return {}
    named = parameters if is_class else parameters[2:]
    return {each.name: each for each in named}


def _hints(found: Any, *, is_class: bool) -> dict[str, Any]:
    try:
        return get_type_hints(found.__init__ if is_class else found)
    except (NameError, TypeError):  # annotations that only make sense to a type checker
        return {}


def _checked(name: str, key: str, value: Any, known: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]) -> Any:
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values())
    names = [each for each, parameter in known.items() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    if key not in names and not takes_any:
        options = [each for each in names if each != _BASE_DIR]
        has = f"It has {', '.join(options)}." if options else "It has none."
        raise ConfigError(f"reward {name!r} has no setting {key!r}.{near_miss(key, options)} {has}")
    if key not in hints:
        return value
    try:
        return TypeAdapter(hints[key]).validate_python(value)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise ConfigError(f"reward {name!r}: {key} is {value!r:.60}. {said}.") from error


def _check_required(name: str, known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> None:
    empty = inspect.Parameter.empty
    plain = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    missing = [
        key
        for key, parameter in known.items()
        if parameter.default is empty and parameter.kind in plain and key not in given and key != _BASE_DIR
    ]
    if missing:
        shown = ", ".join(f"{key}: …" for key in missing)
        raise ConfigError(f"reward {name!r} needs {', '.join(missing)}: write  {{name: {name}, params: {{{shown}}}}}")
