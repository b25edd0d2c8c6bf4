"""`inspect`: run an agent once on each task, and show what would be optimised before anything is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentlightning.cli.train import DEFAULT_CONFIG, complete, trainer_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from agentlightning.data.resource import PromptSite
    from agentlightning.trainer.config import Config
    from agentlightning.trainer.inspection import Inspection


@click.command()
@click.option(
    "--config",
    "-c",
    "path",
    help=f"YAML, TOML or JSON file, instead of AGENT and --tasks or under them; else {DEFAULT_CONFIG}, if it is there.",
)
@click.option("--tasks", "tasks_file", metavar="FILE", help="JSONL, CSV or Parquet; the agent's file may hold `tasks`.")
@click.option("--type", "agent_type", help="The agent's framework; found out when not given.")
@click.option("--json", "is_json", is_flag=True, help="Everything as one JSON object on standard output.")
@click.argument("words", nargs=-1, metavar="[AGENT] [OVERRIDES]...", shell_complete=complete)
def inspect(
    path: str | None, tasks_file: str | None, agent_type: str | None, is_json: bool, words: tuple[str, ...]
) -> None:
    """Run an agent once on each task and show what would be optimised: agents, prompt sites, tools, capture.

    AGENT is ./file.py, file.py:name or package.module:name. OVERRIDES are key.path=value.
    """
    agents = [word for word in words if "=" not in word]
    if not agents and path is None and Path(DEFAULT_CONFIG).exists():
        path = DEFAULT_CONFIG
    if len(agents) > 1 or not (agents or path):
        raise click.UsageError("say which agent: agentlightning inspect ./my_agent.py --tasks tasks.jsonl")
    config = _config(path, [word for word in words if "=" in word], *agents, tasks=tasks_file, type=agent_type)
    trainer, tasks = trainer_of(config.replace({"trainer.progress": "off"}) if is_json else config)
    seen = trainer.inspect(tasks)
    if is_json:
        click.echo(seen.to_json())
    else:
        _print(seen)


def _config(
    path: str | None, overrides: list[str], agent: str | None = None, *, tasks: str | None, type: str | None
) -> Config:
    """What was said on the command line over what the file says; paths typed there start where they were typed."""
    from agentlightning.trainer.config import load_config

    said = {"agent.path": agent and _from_here(agent), "tasks": tasks and _from_here(tasks), "agent.type": type}
    return load_config(path, overrides).replace({key: value for key, value in said.items() if value})


def _from_here(path: str) -> str:
    file = path.partition(".py:")[0] + ".py" if ".py:" in path else path
    return str(Path.cwd() / Path(path).expanduser()) if Path(file).expanduser().exists() else path


def _print(seen: Inspection) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(f"\n{seen.agent_id}, run as {seen.framework}", markup=False)
    console.print(seen.structure.text(), markup=False, soft_wrap=True)
    console.print(_agents(seen))
    for site in seen.sites:
        _print_site(console, site)
    for site, reason in seen.unusable:
        console.print(f"\nleft alone: {site.id} ({_coverage(site)}): {reason}", style="yellow", markup=False)
    if seen.tools:
        marks = dict.fromkeys(seen.writing_tools, " (seems to write)")
        tools = ", ".join(f"{name}{marks.get(name, '')} × {count}" for name, count in seen.tools.items())
        console.print(f"\ntools: {tools}", markup=False)
    health = seen.health
    console.print(
        f"\ncapture: {health.num_calls} calls in {health.num_rollouts} rollouts; {health.num_failed_calls} failed, "
        f"{health.num_without_usage} without token counts, {health.num_partial} not read to the end",
        markup=False,
    )
    for warning in health.warnings:
        console.print(f"note: {warning}", style="yellow", markup=False)


def _agents(seen: Inspection) -> Table:
    from rich.table import Table

    table = Table("agent", "model", "calls", title="Agents")
    for agent, models in seen.agents.items():
        for model, count in models.items():
            table.add_row(agent, model, str(count))
    return table


def _print_site(console: Console, site: PromptSite) -> None:
    console.print(f"\nprompt site {site.id} ({_coverage(site)})", style="bold", markup=False)
    console.print(site.template or "(no instruction yet: a system message may be inserted)", markup=False)
    for slot in site.slots:
        console.print(f"  ⟦{slot.name}⟧ {slot.type}: {', '.join(map(repr, slot.examples))}", markup=False)


def _coverage(site: PromptSite) -> str:
    matched = "" if site.coverage is None else f", matches {site.coverage:.0%} of unseen calls"
    return f"{site.kind}, in {site.num_observed} calls{matched}"
