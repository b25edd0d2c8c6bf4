"""`train`, `eval` and `inspect`: the three things to do with an agent and its tasks, as a config file says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from agentlightning.trainer.config import load_config
from agentlightning.trainer.inspection import Inspection
from agentlightning.trainer.policy_folder import load_policy
from agentlightning.trainer.resolve import load_agent
from agentlightning.trainer.trainer import Trainer

_CONFIG = click.option("--config", "-c", "path", required=True, help="YAML, TOML or JSON file.")
_OVERRIDES: Callable[[Any], Any] = click.argument("overrides", nargs=-1)


@click.command()
@_CONFIG
@click.option("--resume", metavar="RUN", help="Carry an interrupted run on: its id, or 'last'.")
@_OVERRIDES
def train(path: str, overrides: tuple[str, ...], resume: str | None) -> None:
    """Make an agent better, as a config file says. OVERRIDES are key.path=value, such as trainer.max_epochs=5."""
    trainer, tasks = _open(path, overrides)
    result = trainer.train(tasks, resume=True if resume == "last" else resume or False)
    click.echo(result.output_dir)


@click.command("eval")
@_CONFIG
@click.option("--policy", metavar="PATH", help="A saved policy; the agent as it is when not given.")
@_OVERRIDES
def eval_(path: str, overrides: tuple[str, ...], policy: str | None) -> None:
    """Measure an agent on the training tasks of a config file, as it is or under a saved policy. Nothing is learned."""
    trainer, tasks = _open(path, overrides)
    measured = trainer.evaluate(tasks, load_policy(policy) if policy else None)
    click.echo(measured.summary())


@click.command()
@_CONFIG
@_OVERRIDES
def inspect(path: str, overrides: tuple[str, ...]) -> None:
    """Run an agent once on each task and show what would be optimised: agents, prompt sites, tools, capture."""
    trainer, tasks = _open(path, overrides)
    _print(trainer.inspect(tasks))


def _open(path: str, overrides: tuple[str, ...]) -> tuple[Trainer, Any]:
    """The trainer of a config file, and the tasks its agent's file holds when the config names none."""
    config = load_config(path, overrides)
    loaded = load_agent(config)
    settings: dict[str, Any] = {} if config.reward or loaded.reward is None else {"reward": loaded.reward}
    return Trainer(loaded.agent, config=config, **settings), loaded.tasks if config.tasks is None else None


def _print(seen: Inspection) -> None:
    console = Console(highlight=False)
    table = Table("agent", "model", "calls", title="Agents")
    for agent, models in seen.agents.items():
        for model, count in models.items():
            table.add_row(agent, model, str(count))
    console.print(table)
    for site in seen.sites:
        coverage = "" if site.coverage is None else f", matches {site.coverage:.0%} of unseen calls"
        console.print(f"\nprompt site {site.id} ({site.kind}{coverage})", style="bold", markup=False)
        console.print(site.template or "(no instruction yet: a system message may be inserted)", markup=False)
        for slot in site.slots:
            console.print(f"  ⟦{slot.name}⟧ {slot.type}: {', '.join(map(repr, slot.examples))}", markup=False)
    for site, reason in seen.unusable:
        console.print(f"\nleft alone: {site.id}: {reason}", style="yellow", markup=False)
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
