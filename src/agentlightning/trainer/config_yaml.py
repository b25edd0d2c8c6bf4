"""YAML as people type it: read strictly, with the line of every key, and with the fix shown when indentation is broken.

Scalars follow YAML 1.2: `no` and `on` are text, `1e-5` is a number, `12:30` and `2024-05-01` stay as written.
Non-breaking spaces, which web pages put into copied code, count as spaces outside quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from agentlightning.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: `("algorithm", 0, "params")`."""

_ODD_SPACES = "\u00a0\u2007\u202f\u3000"
_TO_SPACES = dict.fromkeys(map(ord, _ODD_SPACES), " ")
_QUOTED_OR_ODD_SPACE = re.compile(
    r"""(?:^|(?<=\s))\#[^\n]*                                                       # a comment, and what it quotes
    | (?:^|(?<=[\s:,\[{-])) (?P<quoted> "(?:\\.|[^"\\])*" | '[^']*' )
    | ["""
    + _ODD_SPACES
    + "]",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_FULL_WIDTH_COLON = re.compile(r"^\s*(?:- )?[\w-]+\uff1a", re.MULTILINE)
_BLOCK_SCALAR = re.compile(r":\s*[|>][+-]?\s*$", re.MULTILINE)


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's scalars; merge keys (`<<`) stay."""


_Loader.yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text.startswith(("0x", "0o")) else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse_yaml(text: str, name: str) -> tuple[Any, dict[KeyPath, int]]:
    """The value of a YAML document, and the line (from 1) of every key and list item in it.

    Raises ConfigError, naming `name` and the line, for broken syntax (with the corrected block where indentation is
    to blame), tabs, duplicate keys and keys that are not text.
    """
    clean = _QUOTED_OR_ODD_SPACE.sub(lambda found: found["quoted"] or found[0].translate(_TO_SPACES), text)
    try:
        loader = _Loader(clean)
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = dict(_walk(node, (), name)) if node else {}
        return (loader.construct_document(node) if node else None), lines
    except yaml.YAMLError as error:
        raise ConfigError(_explain(clean, name, error)) from error


def parse_scalar(text: str, name: str) -> Any:
    """The value of one setting given as text (`5`, `true`, `[a, b]`, `null`); what is not YAML is a ConfigError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: the value cannot be read as YAML. Put quotes around it.") from error


def _walk(node: yaml.Node, path: KeyPath, name: str, outer: tuple[int, ...] = ()) -> Iterator[tuple[KeyPath, int]]:
    if id(node) in outer:
        raise ConfigError(f"{name} line {node.start_mark.line + 1}: an anchor contains itself.")
    outer = (*outer, id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _walk(item, (*path, index), name, outer)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            key, line = _key(key_node, name), key_node.start_mark.line + 1
            if key in seen and key != "<<":
                raise ConfigError(
                    f"{name} line {line}: {key!r} stands twice (first on line {seen[key]}). Keep one of them."
                )
            seen[key] = line
            yield (*path, key), line
            yield from _walk(value, (*path, key), name, outer)


def _key(node: yaml.Node, name: str) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
        return str(node.value)
    shown = repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
    raise ConfigError(f"{name} line {node.start_mark.line + 1}: a key must be text, found {shown}. Put it in quotes.")


def _explain(text: str, name: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark else 1
    rows = text.splitlines()
    for number, row in enumerate(rows, start=1):
        if "\t" in row[: len(row) - len(row.lstrip())]:
            return f"{name} line {number}: indented with a tab, which YAML does not allow. Use two spaces instead."
    fixed = reindent(text)
    if fixed != text and not _BLOCK_SCALAR.search(text) and _is_mapping(fixed):
        start, end = _block_around(rows, line - 1)
        block = "\n".join(f"    {row}" for row in fixed.splitlines()[start:end])
        return f"{name} line {line}: the indentation does not fit the lines above. Write this block so:\n{block}"
    if found := _FULL_WIDTH_COLON.search(text):
        number = text.count("\n", 0, found.end()) + 1
        return f"{name} line {number}: a full-width colon '\uff1a' stands after the key. Write ':' and a space."
    problem = getattr(error, "problem", None) or str(error)
    shown = f": {rows[line - 1].strip()[:80]!r}" if line <= len(rows) and rows[line - 1].strip() else ""
    return f"{name} line {line}: this is not YAML{shown} ({problem}). Check its indentation, colons and quotes."


def reindent(text: str) -> str:
    """The text with two spaces a level, a level being whatever is indented deeper than the line it hangs under.

    A key between its list item's dash and the item's first key belongs to that item: YAML refuses it there, people
    read over it.
    """
    levels = [_Level(0, 0)]
    rows: list[str] = []
    for row in text.splitlines():
        body = row.lstrip(" ")
        if not body or body.startswith("#"):
            rows.append(row)
            continue
        column, is_item = len(row) - len(body), body.startswith("- ")
        while levels[-1].written > column or (is_item and levels[-1].is_beside_dash and levels[-1].written == column):
            levels.pop()
        if column > levels[-1].written:
            levels.append(_Level(column, levels[-1].wanted + 2, is_dash=is_item))
        elif levels[-1].is_dash and not is_item:
            levels.append(_Level(column, levels[-1].wanted + 2, is_beside_dash=True))
        rows.append(" " * levels[-1].wanted + (f"- {body[2:].lstrip(' ')}" if is_item else body))
        if is_item:
            content = column + len(body) - len(body[2:].lstrip(" "))
            levels.append(_Level(content, levels[-1].wanted + 2))
    return "\n".join(rows) + "\n"


class _Level(NamedTuple):
    """An indentation: the column it was written at, and the one it should be at."""

    written: int
    wanted: int
    is_dash: bool = False
    is_beside_dash: bool = False
    """Written right under the dash of the item it belongs to."""


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(yaml.load(text, _Loader), dict)
    except yaml.YAMLError:
        return False


def _block_around(rows: list[str], index: int) -> tuple[int, int]:
    """The lines from one top-level key to the next, around a line."""
    tops = [number for number, row in enumerate(rows) if re.match(r"[^\s#-]", row)]
    start = max((number for number in tops if number < index), default=0)
    end = min((number for number in tops if number > start), default=len(rows))
    while end > start and not rows[end - 1].strip():
        end -= 1
    return start, end
