"""The numbers of a store or a run, as tables for people or JSON for programs."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from agentlightning.cli.store_option import STORE, WHERE, expect_store, parse_where, with_store
from agentlightning.cli.tables import ID, console
from agentlightning.store.statistics import Statistics, Tally, statistics


@click.command()
@click.argument("run", required=False)
@WHERE
@click.option("--json", "as_json", is_flag=True, help="All numbers as one JSON object.")
@STORE
def stats(run: str | None, where: tuple[str, ...], as_json: bool, store: str) -> None:
    """Success, reward, failures, tokens, money and latency: of a run, or of all that is in the store."""
    expect_store(store)
    numbers = with_store(store, lambda opened: statistics(opened, parse_where(where, run)))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_as_json(numbers))).decode())
        return
    out = console()
    if not numbers.total.num_rollouts:
        out.print(f"no rollouts there in {store}", markup=False)
    else:
        _print(out, numbers)
    if numbers.num_in_flight:
        out.print(f"{numbers.num_in_flight} rollouts under way")


def number(value: float | None, digits: int = 2) -> str:
    """A number for a table; nothing for None."""
    return "" if value is None else f"{value:,.{digits}f}"


def share(value: float | None) -> str:
    """A share in percent; nothing for None."""
    return "" if value is None else f"{value:.0%}"


def _print(console: Console, numbers: Statistics) -> None:
    for title, tallies in (("policy", numbers.policies), ("split", numbers.splits), ("agent", numbers.agents)):
        console.print(_tally_table(title, tallies, numbers.total))
    if numbers.tags:
        table = Table("error tag", "rollouts", ID("for example"))
        for name, tag in numbers.tags.items():
            place = "" if tag.step is None else f", step {tag.step}"
            table.add_row(
                name,
                f"{tag.num_rollouts} ({share(tag.num_rollouts / numbers.total.num_rollouts)})",
                f"{tag.example}{place}",
            )
        console.print(table)
    ended = ", ".join(f"{count} {status}" for status, count in sorted(numbers.statuses.items()))
    tokens = f"{numbers.input_tokens:,} in ({numbers.cached_tokens:,} cached), {numbers.output_tokens:,} out"
    unpriced = f" and {numbers.num_unpriced} rollouts whose price is not known" if numbers.num_unpriced else ""
    lines = {
        "ended": ended,
        "calls": f"{numbers.num_model_calls:,} model, {numbers.num_tool_calls:,} tool",
        "tokens": tokens,
        "money": f"${numbers.usd:.4f}{unpriced}",
        "model call": _spread(numbers.call_seconds),
        "rollout": _spread(numbers.rollout_seconds),
    }
    for name, text in lines.items():
        console.print(f"{name:<11}{text}", markup=False, highlight=False)


def _tally_table(title: str, tallies: dict[str, Tally], total: Tally) -> Table:
    table = Table(ID(title), "rollouts", "judged", "success", "mean reward")
    for name, tally in [*tallies.items(), *([("all", total)] if len(tallies) > 1 else [])]:
        counts = (str(tally.num_rollouts), str(tally.num_judged))
        table.add_row(name or "(none)", *counts, share(tally.success), number(tally.mean_reward, 3))
    return table


def _spread(seconds: dict[int, float]) -> str:
    return ", ".join(f"p{p} {value:.2f} s" for p, value in seconds.items()) or "not timed"


def _as_json(numbers: Statistics) -> dict[str, Any]:
    """The struct with the derived shares and means of its tallies."""
    found: dict[str, Any] = msgspec.to_builtins(numbers, str_keys=True)
    found["total"] |= _derived(numbers.total)
    for group in ("policies", "splits", "agents"):
        for name, tally in getattr(numbers, group).items():
            found[group][name] |= _derived(tally)
    return found


def _derived(tally: Tally) -> dict[str, float | None]:
    return {"success": tally.success, "mean_reward": tally.mean_reward}
