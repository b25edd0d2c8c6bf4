"""A filter, checked: which kinds, and which values a field may have. Each back end writes it in its own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from agentlightning.data.record import RECORD_KINDS
from agentlightning.errors import ConfigError, near_miss
from agentlightning.store.base import Where

COLUMNS = ("id", "rollout", "run")
"""Fields that are no path into the body, the most telling one first. Every back end has an index for each."""

_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")

Scalar = str | int | float


class Condition(NamedTuple):
    """The field holds one of the values, or (`or_null`) null or nothing. `is_list`: it was written as a list."""

    field: str
    values: list[Scalar]
    or_null: bool
    is_list: bool


def checked_kinds(kind: str | Sequence[str] | None) -> list[str] | None:
    """The kinds, each once; None for all. ConfigError for one that is not known."""
    if kind is None:
        return None
    names = [kind] if isinstance(kind, str) else kind
    for name in names:
        if name not in RECORD_KINDS:
            raise ConfigError(
                f"unknown record kind {name!r}.{near_miss(name, RECORD_KINDS)} Known: {', '.join(RECORD_KINDS)}."
            )
    return list(dict.fromkeys(names))


def checked_conditions(where: Where | None) -> list[Condition]:
    """All of them must hold. ConfigError for a field that is no path, or a value that is no scalar."""
    return [_condition(field, wanted) for field, wanted in (where or {}).items()]


def _condition(field: str, wanted: Any) -> Condition:
    if field not in COLUMNS and not _PATH.fullmatch(field):
        raise ConfigError(
            f"filter {field!r} is no field: expected id, run, rollout, or a path into the body such as "
            "'features.success' (letters, digits, _ and -, joined by dots)."
        )
    is_list = isinstance(wanted, list | tuple | set | frozenset)
    allowed = cast(list[Any], list(wanted)) if is_list else [wanted]
    for value in allowed:
        if value is not None and not isinstance(value, Scalar):
            raise ConfigError(
                f"filter {field!r}: a value is a string, a number, true, false or null, or a list of those; "
                f"this is {type(value).__name__}: {value!r:.80}"
            )
    return Condition(field, [value for value in allowed if value is not None], None in allowed, is_list)
