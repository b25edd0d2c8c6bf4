"""`plugins`: everything that can be named in a configuration, whose it is, and, when asked, whether it loads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from agentlightning.registry import Registry


@click.command()
@click.option("--check", "is_checked", is_flag=True, help="Import each one that a plugin brings, and say what fails.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
def plugins(is_checked: bool, is_json: bool) -> None:
    """List what is there to be named in a config (algorithms, rewards, …) and which package each comes from."""
    from rich.table import Table

    from agentlightning.cli.tables import ID, console

    rows = list(_rows(is_checked=is_checked))
    if is_json:
        for row in rows:
            click.echo(json.dumps(row))
    else:
        table = Table("kind", ID("name"), ID("from"), "package", *(["loads"] if is_checked else []))
        for row in rows:
            table.add_row(*row.values())
        console().print(table)
    if any(row.get("loads", "yes") != "yes" for row in rows):
        raise SystemExit(1)


def _rows(*, is_checked: bool) -> Iterator[dict[str, str]]:
    for registry in _registries():
        whose = registry.origins()
        for name, path in sorted(registry.names().items()):
            row = {"kind": registry.kind, "name": name, "from": path, "package": whose[name]}
            if is_checked:
                row["loads"] = _loads(registry, name) if name not in registry.builtin else "yes"
            yield row


def _registries() -> list[Registry]:
    from agentlightning.adapters import ADAPTERS
    from agentlightning.algorithms import ALGORITHMS
    from agentlightning.engine.base import ENGINES
    from agentlightning.interception.dialects import REGISTERED as DIALECTS
    from agentlightning.rewards import REWARDS
    from agentlightning.store import STORES
    from agentlightning.trainer.trackers import TRACKERS

    return [ALGORITHMS, REWARDS, ADAPTERS, DIALECTS, STORES, ENGINES, TRACKERS]


def _loads(registry: Registry, name: str) -> str:
    try:
        registry.load(name)
    except Exception as error:  # noqa: BLE001 - somebody else's code: whatever it raises is the answer
        return f"no: {type(error).__name__}: {error}"
    return "yes"
