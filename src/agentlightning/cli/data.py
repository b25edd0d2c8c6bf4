"""Trajectories in and out of a store: archives, training files, spans, and other people's logs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentlightning.cli.store_option import RUN, STORE, WHERE, expect_store, parse_where, with_store
from agentlightning.errors import ConfigError

if TYPE_CHECKING:
    from agentlightning.data.selection import LeftOut
    from agentlightning.data.trajectory import Trajectory
    from agentlightning.store.archive import ImportReport
    from agentlightning.store.base import Store
    from agentlightning.store.exports.base import ExportReport

_ROWS = {
    "jsonl": "trajectories",
    "parquet": "trajectories",
    "sft": "examples",
    "dpo": "pairs",
    "dspy": "examples",
    "otlp": "spans",
}


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--format", "-f", "form", type=click.Choice(list(_ROWS)), help="Default: by the file's ending, or jsonl.")
@WHERE
@RUN
@click.option("--min-reward", type=float, help="Only rollouts judged this good. sft: 0.5 if not given.")
@click.option("--mask", is_flag=True, help="Placeholders for e-mail and IP addresses, phone and card numbers, IBANs.")
@click.option("--agent", "agents", multiple=True, help="sft, dpo: only this agent's conversations. Repeatable.")
@click.option("--flavor", type=click.Choice(["openai", "trl"]), help="sft (default openai), dpo (default trl).")
@click.option("--best-of", type=click.IntRange(min=1), default=1, show_default=True, help="sft, dspy: runs per task.")
@click.option("--min-margin", type=float, default=0.1, show_default=True, help="dpo: least difference of the rewards.")
@click.option("--endpoint", help="otlp: post to this URL, such as http://localhost:4318/v1/traces, not to a file.")
@click.option("--header", multiple=True, metavar="NAME=VALUE", help="otlp: a header of the request. Repeatable.")
@click.option("--no-content", is_flag=True, help="otlp: names and numbers only, no messages.")
@STORE
def export(path: Path | None, form: str | None, store: str, **options: Any) -> None:
    """Write trajectories: whole (jsonl, parquet), to train on (sft, dpo), as examples (dspy), or as spans (otlp)."""
    expect_store(store)
    form = form or _form_of(path, options["endpoint"])
    report = with_store(store, lambda opened: _export(opened, form, path, options))
    target = options["endpoint"] if form == "otlp" and options["endpoint"] else path
    click.echo(f"{report.num_rows} {_ROWS[form]} written to {target}, from {report.num_rollouts} rollouts")
    _tell_left_out(report.left_out, path)


@click.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--format",
    "-f",
    "form",
    type=click.Choice(["jsonl", "parquet", "chat", "otel", "openinference"]),
    help="jsonl, parquet: what export wrote. chat: one {messages: […]} a line. otel, openinference: spans, one a line "
    "or as OTLP JSON. Default: by the file's ending, or jsonl.",
)
@click.option("--agent", default="imported", show_default=True, help="chat: the agent's name where a line has none.")
@STORE
def import_(path: Path, form: str | None, agent: str, store: str) -> None:
    """Read trajectories into a store; those it has already are skipped. Logs become rollouts of split live."""
    form = form or ("parquet" if path.suffix == ".parquet" else "jsonl")
    report = with_store(store, lambda opened: _import(opened, form, path, agent))
    click.echo(f"{report.num_imported} trajectories imported, {report.num_skipped_known} were there already")


async def _export(store: Store, form: str, path: Path | None, options: dict[str, Any]) -> ExportReport:
    from agentlightning.store.archive import export_jsonl
    from agentlightning.store.exports.base import Choice, ExportReport
    from agentlightning.store.exports.dspy import export_dspy
    from agentlightning.store.exports.otlp import export_otlp, export_otlp_file
    from agentlightning.store.exports.parquet import export_parquet
    from agentlightning.store.exports.preferences import export_preferences
    from agentlightning.store.exports.sft import export_sft

    where = parse_where(options["where"], options["run"])
    choice = Choice(where=where, min_reward=options["min_reward"], is_masked=options["mask"])
    if form == "otlp" and options["endpoint"]:
        headers = dict(_header(text) for text in options["header"])
        return await export_otlp(
            store, options["endpoint"], choice, headers=headers, with_content=not options["no_content"]
        )
    if path is None:
        raise ConfigError("name the file to write: agentlightning export PATH (or otlp with --endpoint URL).")
    agents = options["agents"] or None
    if form == "parquet":
        return await export_parquet(store, path, choice)
    if form == "sft":
        flavor = options["flavor"] or "openai"
        return await export_sft(store, path, choice, flavor=flavor, best_of=options["best_of"], agents=agents)
    if form == "dpo":
        flavor, margin = options["flavor"] or "trl", options["min_margin"]
        return await export_preferences(store, path, choice, flavor=flavor, min_margin=margin, agents=agents)
    if form == "dspy":
        return await export_dspy(store, path, choice, best_of=options["best_of"])
    if form == "otlp":
        return await export_otlp_file(store, path, choice, with_content=not options["no_content"])
    count = await export_jsonl(store, path, where, min_reward=choice.min_reward, is_masked=choice.is_masked)
    return ExportReport(count, count)


def _import(store: Store, form: str, path: Path, agent: str) -> Coroutine[Any, Any, ImportReport]:
    from agentlightning.store.archive import import_jsonl, import_trajectories
    from agentlightning.store.exports.parquet import read_parquet
    from agentlightning.store.imports.chat import read_chat
    from agentlightning.store.imports.spans import read_traces

    if form == "jsonl":
        return import_jsonl(store, path)

    def read() -> Generator[Trajectory]:
        if form == "parquet":
            return read_parquet(path)
        return read_chat(path, agent=agent) if form == "chat" else read_traces(path)

    return import_trajectories(store, read)


def _form_of(path: Path | None, endpoint: str | None) -> str:
    if endpoint and path is None:
        return "otlp"
    return "parquet" if path is not None and path.suffix == ".parquet" else "jsonl"


def _header(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise ConfigError(f"--header {name!r} has no value. Write NAME=VALUE.")
    return name.strip(), value.strip()


def _tell_left_out(left_out: list[LeftOut], path: Path | None) -> None:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for item in left_out:
        reasons[item.reason].append(item.rollout)
    for reason, rollouts in sorted(reasons.items(), key=lambda entry: -len(entry[1])):
        click.echo(f"  left out {len(rollouts)}: {reason} (such as {rollouts[0]})")
    if left_out:
        click.echo(f"  each of them: {path}.left_out.jsonl")
