"""`train` and `eval`: what to do with an agent and its tasks, as a config file says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agentlightning.trainer.config import Config
    from agentlightning.trainer.result import TrainingResult
    from agentlightning.trainer.trainer import Trainer

DEFAULT_CONFIG = "al_config.yaml"
"""What `init` writes."""
CONFIG: Callable[[Any], Any] = click.option(
    "--config", "-c", "path", default=DEFAULT_CONFIG, show_default=True, help="YAML, TOML or JSON file."
)


def complete(context: click.Context, parameter: click.Parameter, typed: str) -> Any:
    """The keys of a configuration that begin with what was typed."""
    from agentlightning.cli.completion import complete_setting

    return complete_setting(context, parameter, typed)


OVERRIDES: Callable[[Any], Any] = click.argument("overrides", nargs=-1, shell_complete=complete)
JSON: Callable[[Any], Any] = click.option(
    "--json", "is_json", is_flag=True, help="Progress and result as JSON lines on standard output."
)


@click.command()
@CONFIG
@click.option("--resume", metavar="RUN", help="Carry an interrupted run on: its id, or 'last'.")
@JSON
@OVERRIDES
def train(path: str, overrides: tuple[str, ...], resume: str | None, is_json: bool) -> None:
    """Make an agent better, as a config file says. OVERRIDES are key.path=value, such as trainer.max_epochs=5."""
    trainer, tasks = open_trainer(path, overrides, is_json=is_json)
    finish(trainer.train(tasks, resume=True if resume == "last" else resume or False), is_json=is_json)


@click.command("eval")
@CONFIG
@click.option("--policy", metavar="PATH", help="A saved policy; the agent as it is when not given.")
@click.option("--all", "is_all", is_flag=True, help="Measure also on tasks that the policy was learned from.")
@JSON
@OVERRIDES
def eval_(path: str, overrides: tuple[str, ...], policy: str | None, is_all: bool, is_json: bool) -> None:
    """Measure an agent on the training tasks of a config file, as it is or under a saved policy. Nothing is learned.

    Tasks that the policy was learned from or chosen by are left out where they are known: they would flatter it.
    """
    from agentlightning.cli.unseen import tell_unseen, unseen_tasks
    from agentlightning.trainer.policy_folder import load_policy

    steered = load_policy(policy) if policy else None
    trainer, tasks = open_trainer(path, overrides, is_json=is_json)
    if policy and not is_all:
        tasks = tell_unseen(unseen_tasks(trainer, tasks, policy))
    measured = trainer.evaluate(tasks, steered)
    if not is_json:
        click.echo(measured.summary())


def open_trainer(path: str, overrides: tuple[str, ...], *, is_json: bool = False) -> tuple[Trainer, Any]:
    """The trainer of a config file, and the tasks its agent's file holds when the config names none."""
    from agentlightning.trainer.config import load_config

    return trainer_of(load_config(path, overrides), is_json=is_json)


def trainer_of(config: Config, *, is_json: bool = False, **settings: Any) -> tuple[Trainer, Any]:
    """The same for a configuration. Modules beside its file can be named in it."""
    from agentlightning.trainer.resolve import load_agent
    from agentlightning.trainer.trainer import Trainer

    if str(config.base_dir) not in sys.path:
        sys.path.append(str(config.base_dir))
    loaded = load_agent(config)
    if not config.reward and loaded.reward is not None:
        settings["reward"] = loaded.reward
    progress = "jsonl" if is_json else None
    trainer = Trainer(loaded.agent, config=config, progress=progress, **settings)
    return trainer, loaded.tasks if config.tasks is None else None


def finish(result: TrainingResult, *, is_json: bool) -> None:
    """Say where the result lies. Exits with 3 for a run whose budget ended before the original was measured."""
    from agentlightning.cli.main import NO_BASELINE
    from agentlightning.trainer.run import NOT_MEASURED

    if not is_json:
        click.echo(result.output_dir)
    if result.untried.startswith(NOT_MEASURED):
        raise SystemExit(NO_BASELINE)
