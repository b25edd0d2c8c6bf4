"""Who may import whom, as a table; and what every file of the package owes its reader.

Imports point downward only. The table is the documentation: a room that is not in a row may not be imported there, not
even inside a function. Names that are strings (registries) are no imports; they are how a lower room reaches a higher
one without knowing it.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PACKAGE = "agentlightning"

GROUND = {"errors", "registry", "offspring"}
"""What every room but `data` stands on."""

MAY_IMPORT: dict[str, set[str]] = {
    # the ground: words everybody shares
    "errors": set(),
    "registry": {"errors"},
    "offspring": set(),
    "data": {"errors"},
    # what sees calls, keeps records, asks models
    "interception.dialects": GROUND | {"data"},
    "interception": GROUND | {"data", "interception.dialects"},
    "store": GROUND | {"data"},
    "engine.base": GROUND | {"data"},
    "engine": GROUND | {"data", "engine.base"},
    "models": GROUND | {"data", "interception.dialects"},
    # what knows agents, what learns, what judges: none of them knows another
    "adapters": GROUND | {"data", "interception", "interception.dialects"},
    "gateway": GROUND | {"data", "interception", "interception.dialects", "engine.base"},
    "algorithms": GROUND | {"data", "engine.base"},
    "rewards": GROUND | {"data", "models", "engine.base"},
    # the one who brings them together
    "trainer": GROUND
    | {"data", "interception", "interception.dialects", "store", "engine.base", "models"}
    | {"adapters", "gateway", "algorithms", "rewards"},
    # faces
    "dashboard": GROUND | {"data", "store"},
    "demo": GROUND | {"data", "models", "adapters", "trainer"},
    "contracts": GROUND | {"data", "store", "adapters", "algorithms", "rewards", "trainer", "demo"},
    "cli": GROUND
    | {
        "",
        "data",
        "interception.dialects",
        "engine.base",
        "store",
        "adapters",
        "gateway",
        "algorithms",
        "rewards",
        "trainer",
        "dashboard",
        "demo",
    },
    # `python -m agentlightning`
    "__main__": {"cli"},
    # the public names, loaded when first used; no room below may ask for them
    "": {"errors", "data", "interception", "store", "algorithms", "rewards", "adapters", "trainer"},
}

ADAPTER_GROUND = set("base function module_tools runnables watching within tool_calls call_stack copying".split())
"""What adapters share: the contract, listening to frameworks, plain Python functions with their tools (which SDK
adapters stand on), and LangChain's runnables (which LangGraph's graphs are, too). Beyond it an adapter imports only its
own hooks; only the door, `wrap`, knows them all."""

USER_PROGRAMS = {f"{PACKAGE}.demo.agent", f"{PACKAGE}.demo.sql.agent"}
"""Written as a user would, so with their SDK at the top; imported only when the demo runs."""

WEIGHTS = {"torch", "transformers", "peft", "accelerate", "deepspeed", "horovod", "vllm", "bitsandbytes"}
"""Only the engine touches these, and even there never at the top of a file."""

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "manager", "managers", "misc"}
"""Names that say nothing about what is inside."""

MAX_LINES = 450

IMPORT_NAMES = {"pyyaml": "yaml"}
"""Distributions whose import name is another."""


class Import(NamedTuple):
    """An import statement of one module."""

    source: str
    target: str
    line: int
    is_at_top: bool
    """Runs when the file is imported (not inside a function, not under TYPE_CHECKING)."""


class Module(NamedTuple):
    """A file of a package."""

    name: str
    path: Path
    tree: ast.Module


def modules_of(src: Path) -> dict[str, Module]:
    """Every module under a source folder, by its dotted name."""
    found: dict[str, Module] = {}
    for path in sorted((src / PACKAGE).rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def imports_of(module: Module, known: Iterable[str]) -> Iterator[Import]:
    """Its imports, `from package import submodule` read as the submodule."""
    for node, is_at_top in _statements(module.tree, is_at_top=True):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            base = _absolute(node, module)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in known else base for name in inner]
        yield from (Import(module.name, target, node.lineno, is_at_top) for target in dict.fromkeys(targets))


def _statements(node: ast.AST, *, is_at_top: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, is_at_top
        else:
            is_for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(child, is_at_top=is_at_top and not is_function and not is_for_types)


def _absolute(node: ast.ImportFrom, module: Module) -> str:
    if not node.level:
        return node.module or ""
    package = module.name if module.path.name == "__init__.py" else module.name.rpartition(".")[0]
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def room_of(name: str) -> str:
    """The room a module stands in: the row of MAY_IMPORT that fits it most closely; "" is the package itself."""
    inner = name.removeprefix(PACKAGE).removeprefix(".")
    pair = ".".join(inner.split(".")[:2])
    return pair if pair in MAY_IMPORT else inner.split(".")[0]


def is_ours(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


def layering_breaks(modules: dict[str, Module]) -> list[str]:
    """Imports of our own that the table does not allow."""
    found: list[str] = []
    for module in modules.values():
        room = room_of(module.name)
        if room not in MAY_IMPORT:
            found.append(f"{module.name}: there is no room {room!r} in MAY_IMPORT")
            continue
        for item in imports_of(module, modules):
            target = room_of(item.target)
            if is_ours(item.target) and target != room and target not in MAY_IMPORT[room]:
                found.append(f"{module.name} line {item.line}: {room or 'the package'} may not import {item.target}")
    return found


def top_level_strangers(modules: dict[str, Module], allowed: set[str]) -> list[str]:
    """Imports at the top of a file that are neither ours, nor Python's, nor a core dependency."""
    fine = allowed | set(sys.stdlib_module_names) | {PACKAGE}
    return [
        f"{item.source} line {item.line}: {item.target} must be imported inside the function that needs it"
        for module in modules.values()
        if module.name not in USER_PROGRAMS
        for item in imports_of(module, modules)
        if item.is_at_top and item.target.partition(".")[0] not in fine
    ]


def cycle(modules: dict[str, Module]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; empty when there is none.

    Imports inside functions count, those under TYPE_CHECKING do not (they never run).
    """
    graph = {
        name: sorted({i.target for i in imports_of(_runs(module), modules) if i.target in modules} - {name})
        for name, module in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for target in graph[name]:
            if found := visit(target, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def _runs(module: Module) -> Module:
    """The module without what stands under TYPE_CHECKING."""

    class WithoutTypes(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    return module._replace(tree=WithoutTypes().visit(ast.parse(ast.unparse(module.tree))))


def expect_none(found: list[str]) -> None:
    """Fail with every finding on a line of its own."""
    assert not found, "\n" + "\n".join(found)


def core_dependencies() -> set[str]:
    """Import names of the distributions every installation has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[\s\[<>=!~;]", text)[0].lower() for text in project["dependencies"]]
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return modules_of(SRC)


def test_imports_point_downward_only(modules: dict[str, Module]):
    expect_none(layering_breaks(modules))


def test_no_modules_import_each_other_in_a_circle(modules: dict[str, Module]):
    expect_none(cycle(modules))


def test_the_table_itself_has_no_circle():
    done: set[str] = set()

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, f"{' → '.join((*way, room))}"
        if room not in done:
            for target in MAY_IMPORT[room]:
                visit(target, (*way, room))
            done.add(room)

    for room in MAY_IMPORT:
        visit(room, ())


def test_files_import_only_core_dependencies_at_their_top(modules: dict[str, Module]):
    expect_none(top_level_strangers(modules, core_dependencies()))


def test_only_the_engine_touches_weights(modules: dict[str, Module]):
    found = [
        f"{item.source} line {item.line}: {item.target}"
        for module in modules.values()
        for item in imports_of(module, modules)
        if item.target.partition(".")[0] in WEIGHTS and room_of(module.name) != "engine"
    ]
    expect_none(found)


def test_adapters_do_not_import_each_other(modules: dict[str, Module]):
    prefix = f"{PACKAGE}.adapters."
    shared = {f"{prefix}{name}" for name in ADAPTER_GROUND}
    found = [
        f"{item.source} line {item.line}: {item.target}"
        for module in modules.values()
        if module.name.startswith(prefix) and module.name != f"{prefix}wrap"
        for item in imports_of(module, modules)
        if item.target.startswith(prefix) and item.target not in shared and item.target not in _own_hooks(item.source)
    ]
    expect_none(found)


def _own_hooks(adapter: str) -> set[str]:
    """`autogen` may import `autogen_hooks`, `autogen_tools`, …; runnables have theirs."""
    base = re.sub("_(hooks|tools|structure)$", "", adapter)
    own = {f"{base}_{part}" for part in ("hooks", "tools", "structure")}
    return own | {f"{PACKAGE}.adapters.runnable_hooks"} if adapter.endswith("runnables") else own


def test_every_file_opens_with_its_idea(modules: dict[str, Module]):
    expect_none([str(m.path.relative_to(ROOT)) for m in modules.values() if not ast.get_docstring(m.tree)])


def test_no_file_is_two_files_long(modules: dict[str, Module]):
    lengths = {m.path: len(m.path.read_text(encoding="utf-8").splitlines()) for m in modules.values()}
    expect_none([f"{path.relative_to(ROOT)}: {n} lines" for path, n in lengths.items() if n > MAX_LINES])


def test_names_say_what_is_inside(modules: dict[str, Module]):
    words = {m.name: set(re.split(r"[._]", m.name.removeprefix(PACKAGE))) for m in modules.values()}
    expect_none([name for name, parts in words.items() if parts & FORBIDDEN_NAMES])


# The rules above are only as good as what finds their breaks.


def package(folder: Path, **files: str) -> dict[str, Module]:
    """A little package: `data__task="import …"` is data/task.py."""
    for name, text in files.items():
        path = folder / PACKAGE / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return modules_of(folder)


@pytest.mark.parametrize(
    "text",
    [
        "import agentlightning.store.base",
        "from agentlightning.store import base",
        "from agentlightning import store",
        "from ..store.base import Store",
        "def f():\n    from agentlightning.store.base import Store",
        "if TYPE_CHECKING:\n    from agentlightning.store.base import Store",
        "try:\n    import agentlightning.store.base\nexcept ImportError:\n    pass",
    ],
)
def test_an_upward_import_is_found_however_it_is_written(tmp_path: Path, text: str):
    little = package(tmp_path, data__task=text, store__base="", store__init="")
    little["agentlightning.store"] = little["agentlightning.store.init"]
    [found] = layering_breaks(little)
    assert found.startswith("agentlightning.data.task line ") and "data may not import agentlightning.store" in found


def test_a_part_of_a_room_may_be_open_where_the_room_is_not(tmp_path: Path):
    text = "import agentlightning.interception.dialects.chat\nimport agentlightning.interception.scope"
    little = package(tmp_path, models__client=text, interception__dialects__chat="", interception__scope="")
    assert layering_breaks(little) == [
        "agentlightning.models.client line 2: models may not import agentlightning.interception.scope"
    ]


def test_a_room_nobody_planned_is_found(tmp_path: Path):
    assert layering_breaks(package(tmp_path, attic__box="")) == [
        "agentlightning.attic.box: there is no room 'attic' in MAY_IMPORT"
    ]


def test_a_circle_is_found_through_functions_and_not_through_types(tmp_path: Path):
    little = package(
        tmp_path,
        data__a="import agentlightning.data.b",
        data__b="def f():\n    from agentlightning.data import c",
        data__c="from .a import x",
        data__d="if TYPE_CHECKING:\n    import agentlightning.data.e",
        data__e="import agentlightning.data.d",
    )
    assert cycle(little) == [f"agentlightning.data.{name}" for name in "abca"]
    del little["agentlightning.data.c"]
    assert cycle(little) == []


def test_a_stranger_at_the_top_is_found_and_in_a_function_is_not(tmp_path: Path):
    text = "import os, httpx\ntry:\n    import openai.types\nexcept ImportError: ...\ndef f():\n    import torch"
    found = top_level_strangers(package(tmp_path, data__a=text), {"httpx"})
    assert found == ["agentlightning.data.a line 3: openai.types must be imported inside the function that needs it"]
