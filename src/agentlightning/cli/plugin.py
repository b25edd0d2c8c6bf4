"""`init --plugin`: a package of one's own that works as it is written, with the test that shows it."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from agentlightning.errors import ConfigError

_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "README.md.txt": "README.md",
    "algorithm.py.txt": "src/{package}/algorithm.py",
    "reward.py.txt": "src/{package}/reward.py",
    "test_plugin.py.txt": "tests/test_plugin.py",
}


def write_plugin(name: str) -> None:
    """Write the package into a new folder. ConfigError for a name that is none, or a folder that is there."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise ConfigError(f"--plugin {name!r}: a name is lower-case letters, digits and hyphens, like my-idea.")
    folder, package = Path(name), name.replace("-", "_")
    if folder.exists():
        raise ConfigError(f"{name} is there already. Remove it, or take another name.")
    words = {"distribution": name.replace("_", "-"), "package": package, "class_name": _class_name(name)}
    source = files("agentlightning.cli") / "plugin_files"
    for template, target in _FILES.items():
        text = Template((source / template).read_text(encoding="utf-8")).substitute(words)
        path = folder / target.format(package=package)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "src" / package / "__init__.py").write_text(
        f'"""{name}: an algorithm and a reward for Agent Lightning."""\n', encoding="utf-8"
    )
    click.echo(f"{name}: src/{package}/algorithm.py, src/{package}/reward.py, tests/test_plugin.py")
    click.echo(f"Next:  cd {name} && pip install -e '.[test]' && pytest && agentlightning plugins --check")


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in re.split("[-_]", name))
