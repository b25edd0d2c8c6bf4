"""`agentlightning train`: a config file in, an optimised policy and a report out."""

from __future__ import annotations

from typing import Any

import click

from agentlightning.trainer.config import load_config
from agentlightning.trainer.resolve import load_agent
from agentlightning.trainer.trainer import Trainer


@click.command()
@click.option("--config", "-c", "path", required=True, help="YAML, TOML or JSON file.")
@click.option("--resume", metavar="RUN", help="Carry an interrupted run on: its id, or 'last'.")
@click.argument("overrides", nargs=-1)
def train(path: str, overrides: tuple[str, ...], resume: str | None) -> None:
    """Make an agent better, as a config file says. OVERRIDES are key.path=value, such as trainer.max_epochs=5."""
    config = load_config(path, overrides)
    loaded = load_agent(config)
    settings: dict[str, Any] = {} if config.reward or loaded.reward is None else {"reward": loaded.reward}
    trainer = Trainer(loaded.agent, config=config, **settings)
    tasks = loaded.tasks if config.tasks is None else None
    result = trainer.train(tasks, resume=True if resume == "last" else resume or False)
    click.echo(result.output_dir)
