"""What is wrong with a setting, in one sentence: pydantic's findings put into words for someone who wrote a file.

Works for any tree of pydantic models without unions between them; the nearest valid key comes from the tree itself.
A model may say more in two class variables: `expected` (what to write in its place) and `refused` (key → why not).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError

from agentlightning.errors import near_miss
from agentlightning.trainer.config_yaml import KeyPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "a mapping (key: value)",
}
"""By the first part of pydantic's error type: `int_type`, `int_parsing`, `model_type`, …"""

_BOUNDS = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}

_SECRET = ("key", "token", "secret", "password", "authorization")


class Problem(NamedTuple):
    """One thing wrong, and where in the tree."""

    path: KeyPath
    text: str


def problems(error: ValidationError, tree: type[BaseModel]) -> list[Problem]:
    """Every finding of a failed validation of `tree`, in the order of the keys; no value that may be secret."""
    return [_problem(detail, tree) for detail in error.errors(include_url=False)]


def dotted(path: KeyPath) -> str:
    """`algorithm.0.params`, as overrides write it."""
    return ".".join(map(str, path))


def _problem(detail: ErrorDetails, tree: type[BaseModel]) -> Problem:
    path: KeyPath = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return Problem(path, _unknown_key(path, tree))
    if detail["type"] == "missing":
        return Problem(path[:-1], f"{dotted(path[:-1])} lacks the key {path[-1]!r}.")
    if detail["type"] == "value_error":
        return Problem(path, f"{dotted(path)}: {detail.get('ctx', {})['error']}" if path else str(detail["msg"]))
    return Problem(
        path, f"{dotted(path) or 'the configuration'} must be {_expected(detail, tree)}, got {_got(detail, path)}"
    )


def _unknown_key(path: KeyPath, tree: type[BaseModel]) -> str:
    key, parent = str(path[-1]), _model_at(path[:-1], tree) or tree
    known = list(parent.model_fields)
    if refusal := getattr(parent, "refused", {}).get(key):
        return f"{dotted(path)}: {refusal}"
    where = f"in {dotted(path[:-1])}" if len(path) > 1 else "at the top level"
    if hint := near_miss(key, known):
        return f"unknown key {key!r} {where}.{hint}"
    if homes := [dotted(home) for home in _homes(key, tree) if home != path[:-1]]:
        return f"unknown key {key!r} {where}. It belongs under {' or '.join(map(repr, homes))}."
    params = " Settings of the algorithm itself go under 'params'." if "params" in known else ""
    return f"unknown key {key!r} {where}. Known: {', '.join(known)}.{params}"


def _model_at(path: KeyPath, tree: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes what stands at a path, or the items of the list there; None when none does."""
    model: type[BaseModel] | None = tree
    for part in path:
        if model and (field := model.model_fields.get(str(part))):  # else an index, or a name in `dict[str, Model]`
            model = _model_of(field.annotation)
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The model inside `Model`, `Model | None` or `list[Model]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part))), None)


def _homes(key: str, tree: type[BaseModel], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Paths of the models that do have a key."""
    for name, field in tree.model_fields.items():
        if (model := _model_of(field.annotation)) is not None:
            if key in model.model_fields:
                yield (*path, name)
            yield from _homes(key, model, (*path, name))


def _expected(detail: ErrorDetails, tree: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if form := getattr(_model_at(tuple(detail["loc"]), tree), "expected", None):
        if kind.startswith("model"):
            return form
        if kind == "list_type":
            return f"{form}, or a list of these"
    if kind == "literal_error":
        return f"one of {context['expected']}"
    if kind in _BOUNDS:
        return f"{_BOUNDS[kind]} {context[next(iter(context))]:g}"
    if (family := kind.split("_")[0]) in _EXPECTED:
        return _EXPECTED[family]
    return f"different ({detail['msg']})"


def _got(detail: ErrorDetails, path: KeyPath) -> str:
    given = detail["input"]
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, dict | list):
        return "a mapping" if isinstance(given, dict) else "a list"
    if any(word in str(path[-1:]).lower() for word in _SECRET):
        return "something else"
    hint = " (a full-width colon stands in it; write ':' and a space)" if "\uff1a" in str(given) else ""
    return f"{given!r:.60}{hint}"


def keys(tree: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every key of the tree that is no section itself, dotted."""
    for name, field in tree.model_fields.items():
        model = _model_of(field.annotation)
        if model is None or str(field.annotation).startswith(("list", "dict")):
            yield f"{path}{name}"
        else:
            yield from keys(model, f"{path}{name}.")
