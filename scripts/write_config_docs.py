"""Write the tables of docs/configuration.md from the configuration itself. Run after changing a setting."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agentlightning.algorithms import ALGORITHMS
from agentlightning.trainer.config import config_schema

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
BEGIN = "<!-- what follows is written by scripts/write_config_docs.py -->"
END = "<!-- end of what is written -->"
_HEAD = "| key | value | default | meaning |\n| --- | --- | --- | --- |"
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
}
_SECTIONS = {
    "ModelSection": "A model, in `models`",
    "Price": "A price, in `budget.prices`",
    "RewardPart": "One reward, in `reward`",
    "Stage": "One algorithm, in `algorithm`",
    "ToolSection": "A tool, in `agent.tools`",
}
"""Parts that stand under more than one key, or under keys the user names."""
_SHORT = {"tasks": "TaskSection", "store": "StoreSection", "engine": "EngineSection"}
"""Keys that take a section, or a shorter form of it."""


def tables() -> str:
    """Every section as a heading and a table."""
    schema = config_schema()
    parts = schema["$defs"]
    top = {key: spec for key, spec in schema["properties"].items() if _section_of(spec) is None and key not in _SHORT}
    blocks = [_section("At the top level", "", {"properties": top})]
    for key, spec in schema["properties"].items():
        if name := _section_of(spec) or _SHORT.get(key):
            blocks.append(_section(f"`{key}`", parts[name]["description"], parts[name]))
    blocks += [_section(title, parts[name]["description"], parts[name]) for name, title in _SECTIONS.items()]
    blocks += [_algorithm(name) for name in sorted(ALGORITHMS.builtin)]
    return "\n\n".join(blocks)


def write(text: str) -> str:
    """The page with the tables between the two marks replaced."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _section(title: str, description: str, spec: Mapping[str, Any]) -> str:
    required = spec.get("required", [])
    rows = [
        _row(key, _value(field), "required" if key in required else _default(field), field.get("description", ""))
        for key, field in spec["properties"].items()
    ]
    return "\n\n".join(part for part in (f"### {title}", description, "\n".join([_HEAD, *rows])) if part)


def _algorithm(name: str) -> str:
    config = ALGORITHMS.load(name).Config
    meanings = {key: text for kind in reversed(config.__mro__) for key, text in _attribute_docs(kind)}
    fields = {
        key: field | {"description": meanings.get(key, "")}
        for key, field in config.model_json_schema()["properties"].items()
    }
    return _section(f"`params` of `{name}`", config.__doc__ or "", {"properties": fields})


def _attribute_docs(kind: type) -> Iterator[tuple[str, str]]:
    """The text under each annotated attribute in a class's own source."""
    if not kind.__module__.startswith("agentlightning."):
        return
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            yield field.target.id, inspect.cleandoc(str(text.value.value))


def _section_of(spec: Mapping[str, Any]) -> str | None:
    return spec["$ref"].rpartition("/")[2] if "$ref" in spec else None


def _row(*cells: str) -> str:
    key, *rest = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return f"| `{key}` | " + " | ".join(rest) + " |"


def _value(spec: Mapping[str, Any]) -> str:
    if "enum" in spec:
        return ", ".join(f"`{value}`" for value in spec["enum"])
    if "anyOf" in spec:
        return " or ".join(dict.fromkeys(_value(entry) for entry in spec["anyOf"] if entry.get("type") != "null"))
    if "$ref" in spec:
        return "mapping"
    if "prefixItems" in spec:
        return f"list of {len(spec['prefixItems'])} {_value(spec['prefixItems'][0])}s"
    if spec.get("type") == "array":
        return f"list of {_plural(spec['items'])}"
    if spec.get("type") == "object" and isinstance(inner := spec.get("additionalProperties"), dict):
        return f"mapping of names to {_plural(inner)}"
    return _TYPES.get(spec.get("type", ""), "anything") + _bound(spec)


def _plural(spec: Mapping[str, Any]) -> str:
    return {"text": "texts", "mapping": "mappings", "text or mapping": "texts or mappings"}.get(
        value := _value(spec), value
    )


def _bound(spec: Mapping[str, Any]) -> str:
    if "exclusiveMinimum" in spec:
        return f" > {spec['exclusiveMinimum']:g}"
    return f" ≥ {spec['minimum']:g}" if "minimum" in spec else ""


def _default(spec: Mapping[str, Any]) -> str:
    value = spec.get("default")
    return "" if value in (None, {}, []) else f"`{json.dumps(value, ensure_ascii=False)}`".replace('"', "")


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
