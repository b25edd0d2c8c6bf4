"""The `--store` and `--where` options, and work done with a store that is closed again afterwards."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agentlightning.errors import ConfigError

if TYPE_CHECKING:
    from agentlightning.store.base import Store

T = TypeVar("T")

STORE = click.option(
    "--store",
    "-s",
    default="./trajectory_data",
    show_default=True,
    envvar="AGENTLIGHTNING_STORE",
    help="Folder or address of the store.",
)
WHERE = click.option(
    "--where",
    "-w",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only rollouts with this value, such as split=live or features.success=false; a,b: one of them. Repeatable.",
)
RUN = click.option("--run", help="Only this run.")


def with_store(address: str, work: Callable[[Store], Coroutine[Any, Any, T]]) -> T:
    """Open the store, do the work on a loop of its own, close the store."""

    from agentlightning.store.open import open_store

    async def run() -> T:
        store = open_store(address)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def expect_store(address: str) -> None:
    """ConfigError when there is no store: opening a folder makes one, so a mistyped name would be an empty one."""
    from agentlightning.store.sqlite import file_of

    is_file = address.startswith("sqlite:") or not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address)
    folder = address.removeprefix("segments:///").partition("?")[0] if address.startswith("segments:///") else None
    is_missing = not (Path(folder).expanduser() / "store.json").exists() if folder is not None else False
    if is_missing or (is_file and not file_of(address).exists()):
        raise ConfigError(
            f"there is no store at {address}. --store names another, or AGENTLIGHTNING_STORE in the environment."
        )


def parse_where(conditions: Sequence[str], run: str | None = None) -> dict[str, Any]:
    """The filter that `--where` and `--run` ask for. Values are JSON where they read as it (true, 3), else text."""
    where: dict[str, Any] = {"run": run} if run else {}
    for condition in conditions:
        field, sign, text = condition.partition("=")
        if not sign or not field.strip():
            raise ConfigError(f"--where {condition!r} is no condition. Write FIELD=VALUE, such as split=live.")
        values = [_value(part) for part in text.split(",")]
        where[field.strip()] = values[0] if len(values) == 1 else values
    return where


def _value(text: str) -> Any:
    import msgspec

    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return text if isinstance(value, dict | list) else value
