"""Stores themselves, from the command line: copied, checked, measured, pruned."""

from __future__ import annotations

import re
import time

import click
from rich.filesize import decimal
from rich.table import Table

from agentlightning.cli.store_option import expect_store, with_store
from agentlightning.cli.tables import ID, console
from agentlightning.errors import ConfigError, StoreError
from agentlightning.store.base import Store
from agentlightning.store.checking import SizeReport, check_store, measure_store
from agentlightning.store.copying import CopyReport, copy_store
from agentlightning.store.open import open_store
from agentlightning.store.retention import Plan, plan_prune
from agentlightning.store.retention import prune as run_prune


@click.group()
def store() -> None:
    """Copy, check, measure and prune stores. A store is a folder, or an address such as postgresql://… or s3://bucket/runs."""


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

    expect_store(source)
    report = with_store(source, work)
    click.echo(
        f"{report.num_records} records and {report.num_blobs} blobs copied, "
        f"{report.num_records_there} and {report.num_blobs_there} were there already"
    )


@store.command()
@click.argument("address")
def check(address: str) -> None:
    """Read everything in the store at ADDRESS, and say what is damaged or missing (exit code 1)."""
    expect_store(address)
    report = with_store(address, check_store)
    looked_at = f"{report.num_records} records and {report.num_blobs} blobs"
    if report.problems:
        lines = "\n".join(f"  {problem}" for problem in report.problems)
        raise StoreError(f"{looked_at} were read, and this is wrong:\n{lines}")
    click.echo(f"{looked_at} were read, and all is well")


@store.command()
@click.argument("address")
@click.option("--runs", "num_runs", type=click.IntRange(min=0), default=20, show_default=True, help="Runs to list.")
def size(address: str, num_runs: int) -> None:
    """Show what the store at ADDRESS holds, in bytes: by kind of record, by run (the largest first), and its blobs."""
    expect_store(address)
    report = with_store(address, measure_store)
    out = console()
    out.print(_kinds_table(report))
    if report.runs and num_runs:
        out.print(_runs_table(report, num_runs))
    if report.largest_blobs:
        out.print(_blobs_table(report))
    out.print(f"on disk or at the service, indexes and compression included: {decimal(report.num_occupied_bytes)}")


@store.command()
@click.argument("address")
@click.option("--older-than", required=True, metavar="AGE", help="Such as 30d, 12h or 90m, since the last write.")
@click.option("--keep-runs", type=click.IntRange(min=0), default=0, help="Keep this many of the latest runs anyway.")
@click.option("--unfinished", is_flag=True, help="Also runs that did not finish; they cannot be resumed afterwards.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def prune(address: str, older_than: str, keep_runs: int, unfinished: bool, dry_run: bool) -> None:
    """Remove old runs, old rollouts outside any run, and the blobs that only they name, from the store at ADDRESS."""

    async def work(opened: Store) -> Plan:
        plan = await plan_prune(
            opened, older_than_seconds=_seconds(older_than), keep_runs=keep_runs, with_unfinished=unfinished
        )
        if not dry_run:
            await run_prune(opened, plan)
        return plan

    expect_store(address)
    _tell(with_store(address, work), is_dry=dry_run)


@store.command()
@click.argument("address")
def vacuum(address: str) -> None:
    """Give back the room of what was removed from the store at ADDRESS, and clear away what killed processes left."""

    async def work(opened: Store) -> tuple[int, int]:
        before = await opened.occupied()
        await opened.vacuum()
        return before, await opened.occupied()

    expect_store(address)
    before, after = with_store(address, work)
    click.echo(f"{decimal(before)} before, {decimal(after)} now")


def _kinds_table(report: SizeReport) -> Table:
    table = Table("kind", "number", "size")
    for kind, number in sorted(report.num_records.items(), key=lambda item: -report.num_bytes[item[0]]):
        table.add_row(kind, f"{number:,}", decimal(report.num_bytes[kind]))
    table.add_section()
    table.add_row("records", f"{sum(report.num_records.values()):,}", decimal(sum(report.num_bytes.values())))
    table.add_row("blobs", f"{report.num_blobs:,}", decimal(report.num_blob_bytes))
    return table


def _runs_table(report: SizeReport, num_runs: int) -> Table:
    table = Table(ID("run"), "records", "size")
    largest = sorted(report.runs.items(), key=lambda item: -item[1][1])
    for run, (number, num_bytes) in largest[:num_runs]:
        table.add_row(run or "(no run)", f"{number:,}", decimal(num_bytes))
    if len(largest) > num_runs:
        table.caption = f"and {len(largest) - num_runs} smaller ones"
    return table


def _blobs_table(report: SizeReport) -> Table:
    table = Table(ID("blob (sha256)"), "size")
    for ref in report.largest_blobs:
        table.add_row(ref.sha256, decimal(ref.size))
    if report.num_blobs > len(report.largest_blobs):
        table.caption = f"the largest of {report.num_blobs:,}"
    return table


def _tell(plan: Plan, *, is_dry: bool) -> None:
    verb = "would go" if is_dry else "removed"
    for run in plan.runs:
        last = time.strftime("%Y-%m-%d", time.localtime(run.last))
        click.echo(f"  {run.id}  {run.status or 'imported'}, last written {last}, {run.num_records} records")
    click.echo(
        f"{verb}: {len(plan.runs)} runs and {len(plan.rollouts)} rollouts outside any run "
        f"({plan.num_records} records), {len(plan.blobs)} blobs, {decimal(plan.num_bytes)}"
    )
    if plan.unfinished:
        kept = ", ".join(run.id for run in plan.unfinished)
        click.echo(f"kept, because they did not finish and may be resumed (--unfinished removes them): {kept}")
    if plan.num_records and not is_dry:
        click.echo("`agentlightning store vacuum` gives their room back.")


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([wdhms])", age.strip())
    if found is None:
        raise ConfigError(f"--older-than {age!r} is no age. Write a number and w, d, h, m or s, such as 30d.")
    return float(found[1]) * {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}[found[2]]
