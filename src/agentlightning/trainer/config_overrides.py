"""Settings from outside the file: `AGENTLIGHTNING_…` variables and `key.path=value` words, laid over its data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from agentlightning.errors import ConfigError
from agentlightning.trainer.config_yaml import KeyPath, parse_scalar

PREFIX = "AGENTLIGHTNING_"


class Setting(NamedTuple):
    """A value for one key, and what to call its source in an error."""

    path: KeyPath
    value: Any
    origin: str


def from_environment(env: Mapping[str, str]) -> list[Setting]:
    """Settings in the environment: `AGENTLIGHTNING_MODELS__POLICY=x` sets `models.policy`, in lower case.

    Names without a double underscore (`AGENTLIGHTNING_DEVICE`) are not settings.
    """
    settings: list[Setting] = []
    for name in sorted(name for name in env if name.startswith(PREFIX) and "__" in name):
        origin, levels = f"environment {name}", name[len(PREFIX) :].lower().split("__")
        if not all(levels):
            raise ConfigError(f"{origin}: a level is empty. Write it like {PREFIX}MODELS__POLICY.")
        settings.append(Setting(key_path(".".join(levels)), parse_scalar(env[name], origin), origin))
    return settings


def from_overrides(overrides: Iterable[str]) -> list[Setting]:
    """Settings written `key.path=value`; a number in the path counts list items from 0."""
    settings: list[Setting] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.strip().split(".")):
            hint = (
                f" For a configuration file: --config {text}"
                if text.endswith((".yaml", ".yml", ".toml", ".json"))
                else ""
            )
            raise ConfigError(
                f"override {text!r} is not of the form key.path=value, such as trainer.max_epochs=5.{hint}"
            )
        origin = f"override {key.strip()}"  # without the value, which may be a secret
        settings.append(Setting(key_path(key.strip()), parse_scalar(value, origin), origin))
    return settings


def key_path(dotted: str) -> KeyPath:
    """The path written `algorithm.0.params`."""
    return tuple(int(part) if part.isdecimal() else part for part in dotted.split("."))


def apply_setting(data: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A copy of `data` with the setting put in; mappings on the way are made.

    Raises ConfigError where the way leads through something that has no keys, or to a list item that is not there.
    """
    return _put(data, setting.path, setting)


def _put(node: Any, rest: KeyPath, setting: Setting) -> Any:
    if not rest:
        return setting.value
    key, *deeper = rest
    if isinstance(node, list) and isinstance(key, int):
        if key > len(node):
            raise ConfigError(f"{setting.origin}: there is no item {key} here, only {len(node)} (counted from 0).")
        changed = [*node, None] if key == len(node) else list(node)
        changed[key] = _put(changed[key], tuple(deeper), setting)
        return changed
    if node is None or isinstance(node, dict):
        node = node or {}
        return {**node, str(key): _put(node.get(str(key)), tuple(deeper), setting)}
    way = ".".join(map(str, setting.path[: len(setting.path) - len(rest)]))
    shown = "a list; count its items from 0" if isinstance(node, list) else f"{node!r:.40}, which has no keys"
    raise ConfigError(f"{setting.origin}: {way} is {shown}.")
