"""Stores themselves, from the command line: copied, checked, measured."""

from __future__ import annotations

import re

import click
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from agentlightning.cli.store_option import with_store
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.base import Store
from agentlightning.store.checking import check_store, measure_store
from agentlightning.store.copying import CopyReport, copy_store
from agentlightning.store.open import open_store
from agentlightning.store.sqlite import file_of


@click.group()
def store() -> None:
    """Copy, check and measure stores. A store is a folder, or an address such as postgresql://… or s3://bucket/runs."""


@store.command()
@click.argument("source")
@click.argument("target")
def copy(source: str, target: str) -> None:
    """Add everything in SOURCE to TARGET. What TARGET has already is left as it is, so this may be repeated."""

    async def work(opened: Store) -> CopyReport:
        other = open_store(target)
        try:
            return await copy_store(opened, other)
        finally:
            await other.close()

    _expect(source)
    report = with_store(source, work)
    click.echo(
        f"{report.num_records} records and {report.num_blobs} blobs copied, "
        f"{report.num_records_there} and {report.num_blobs_there} were there already"
    )


@store.command()
@click.argument("address")
def check(address: str) -> None:
    """Read everything in the store at ADDRESS, and say what is damaged or missing (exit code 1)."""
    _expect(address)
    report = with_store(address, check_store)
    looked_at = f"{report.num_records} records and {report.num_blobs} blobs"
    if report.problems:
        lines = "\n".join(f"  {problem}" for problem in report.problems)
        raise StoreError(f"{looked_at} were read, and this is wrong:\n{lines}")
    click.echo(f"{looked_at} were read, and all is well")


@store.command()
@click.argument("address")
def size(address: str) -> None:
    """Show how many records and blobs the store at ADDRESS has, and their bytes."""
    _expect(address)
    report = with_store(address, measure_store)
    table = Table("kind", "number", "size")
    for kind, number in sorted(report.num_records.items(), key=lambda item: -report.num_bytes[item[0]]):
        table.add_row(kind, f"{number:,}", decimal(report.num_bytes[kind]))
    table.add_section()
    table.add_row("records", f"{sum(report.num_records.values()):,}", decimal(sum(report.num_bytes.values())))
    table.add_row("blobs", f"{report.num_blobs:,}", decimal(report.num_blob_bytes))
    Console().print(table)


def _expect(address: str) -> None:
    """Opening makes a store, so a mistyped folder would be an empty one."""
    is_file = address.startswith("sqlite:") or not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", address)
    if is_file and not file_of(address).exists():
        raise ConfigError(f"there is no store at {address}.")
