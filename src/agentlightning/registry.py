"""A name becomes a class: a table of dotted names, then entry points, then a dotted path.

Nothing is imported to be known, only to be used. Third parties add names through the entry-point group
`agentlightning.<kind>`, or skip registration and write `my_package.module:Name`.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agentlightning.errors import ConfigError, near_miss


class Registry:
    """The names of one kind of thing ("algorithm", "adapter", "reward", "store")."""

    def __init__(self, kind: str, builtin: Mapping[str, str]) -> None:
        self.kind = kind
        self.builtin = dict(builtin)

    def _plugins(self) -> dict[str, EntryPoint]:
        places = tuple((place, _changed_at(place)) for place in sys.path)
        return _registered(places).get(f"agentlightning.{self.kind}", {})

    def names(self) -> dict[str, str]:
        """Every known name and the dotted path behind it, built-in ones first."""
        return {**{name: point.value for name, point in self._plugins().items()}, **self.builtin}

    def origins(self) -> dict[str, str]:
        """Every known name and whose it is: `agentlightning`, or the package that registered it, with its version."""
        theirs = {name: f"{p.dist.name} {p.dist.version}" if p.dist else "" for name, p in self._plugins().items()}
        return {**theirs, **dict.fromkeys(self.builtin, "agentlightning")}

    def load(self, name: str) -> Any:
        """The object behind a known name or a `module:attribute` path; an unknown name is a ConfigError with a hint."""
        if name in self.builtin:
            return self._import(self.builtin[name], name)
        if point := self._plugins().get(name):
            return point.load()
        if ":" in name:
            return self._import(name, name)
        known = self.names()
        raise ConfigError(
            f"unknown {self.kind} {name!r}.{near_miss(name, known)} "
            f"Known: {', '.join(sorted(known))}; or write your own as 'package.module:Name'. "
            "(`agentlightning plugins` lists them all.)"
        )

    def _import(self, path: str, name: str) -> Any:
        module_name, _, attribute = path.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and not module_name.startswith(error.name):
                raise
            raise ConfigError(f"{self.kind} {name!r}: there is no module {module_name!r} to import.") from error
        if not hasattr(module, attribute):
            known = [entry for entry in vars(module) if not entry.startswith("_")]
            hint = near_miss(attribute, known)
            raise ConfigError(f"{self.kind} {name!r}: module {module_name!r} has no {attribute!r}.{hint}")
        return getattr(module, attribute)


@lru_cache(maxsize=4)
def _registered(places: tuple[tuple[str, int], ...]) -> dict[str, dict[str, EntryPoint]]:
    """The entry points of our groups in these places. Looking takes 0.1 s where many packages are installed."""
    found = entry_points()
    groups = [group for group in found.groups if group.startswith("agentlightning.")]
    return {group: {point.name: point for point in found.select(group=group)} for group in groups}


def _changed_at(place: str) -> int:
    """Installing something changes its folder."""
    try:
        return os.stat(place or ".").st_mtime_ns
    except OSError:
        return 0
