"""A configuration file becomes plain data, with the line each key stands on, so that errors can point at it.

YAML, TOML or JSON by the file's suffix. Knows nothing of which keys there are.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from agentlightning.errors import ConfigError
from agentlightning.trainer.config_yaml import KeyPath, parse_yaml
from agentlightning.trainer.nearby import files_like

SUFFIXES = (".yaml", ".yml", ".toml", ".json")

_TOML_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_TOML_KEY = re.compile(r"""^\s*((?:[\w.-]|"[^"]*"|'[^']*')+)\s*=""")


class ConfigFile(NamedTuple):
    """What a file says, and where it says it."""

    name: str
    """As the user wrote it; the start of every error message."""
    data: dict[str, Any]
    lines: dict[KeyPath, int]

    def place(self, path: KeyPath) -> str:
        """`al_config.yaml line 9` for the deepest part of a key path the file holds; the name alone for none."""
        line = self.line(path)
        return f"{self.name} line {line}" if line else self.name

    def line(self, path: KeyPath) -> int | None:
        """The line of the deepest part of a key path that stands in the file."""
        return next((self.lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.lines), None)


def read_config_file(path: str | Path) -> ConfigFile:
    """Read a .yaml, .yml, .toml or .json file holding one mapping.

    Raises ConfigError for a file that is missing (naming one that looks like it), empty, not UTF-8, broken, or holding
    something else than a mapping.
    """
    path, name = Path(path).expanduser(), str(path)
    if path.suffix.lower() not in SUFFIXES and not path.is_dir():
        raise ConfigError(f"{name}: a configuration file ends in {', '.join(SUFFIXES)}, not in {path.suffix!r}.")
    text = _text(path, name)
    if not text.strip():
        raise ConfigError(f"{name} is empty. The least it can say is which agent to run:  agent: {{path: my_agent.py}}")
    parse = {".toml": _parse_toml, ".json": _parse_json}.get(path.suffix.lower(), parse_yaml)
    data, lines = parse(text, name)
    if not isinstance(data, dict):
        found = "only comments" if data is None else "a list" if isinstance(data, list) else f"{data!r:.60}"
        raise ConfigError(f"{name} must hold keys such as 'agent:' and 'trainer:' (a mapping), but holds {found}.")
    return ConfigFile(name, data, lines)


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        hint = files_like(path, SUFFIXES) or " `agentlightning init` writes one."
        raise ConfigError(f"there is no configuration file {name!r}.{hint}") from error
    except IsADirectoryError as error:
        raise ConfigError(
            f"{name!r} is a folder. Name the file in it.{files_like(path / 'al_config.yaml', SUFFIXES)}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except OSError as error:
        raise ConfigError(f"{name} cannot be read: {error.strerror or error}.") from error


def _parse_json(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{name} line {error.lineno}: this is not JSON ({error.msg}).") from error
    # Tabs are legal between JSON's tokens and never inside its strings; YAML, read for the lines, refuses them.
    return data, parse_yaml(text.replace("\t", " "), name)[1]


def _parse_toml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    try:
        return tomllib.loads(text), _toml_lines(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        place = f"{name} line {found[1]}" if found else name
        raise ConfigError(f"{place}: this is not TOML ({error}).") from error


def _toml_lines(text: str) -> dict[KeyPath, int]:
    """Lines of headers and of `key =`. Keys of inline tables are found through the line of the table."""
    lines: dict[KeyPath, int] = {}
    section: KeyPath = ()
    for number, row in enumerate(text.splitlines(), start=1):
        if header := _TOML_HEADER.match(row):
            section = _toml_path(header[2])
            if header[1] == "[[":
                section = (*section, sum(path[:-1] == section and isinstance(path[-1], int) for path in lines))
            lines.setdefault(section, number)
        elif key := _TOML_KEY.match(row):
            lines.setdefault((*section, *_toml_path(key[1])), number)
    return lines


def _toml_path(dotted: str) -> KeyPath:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
