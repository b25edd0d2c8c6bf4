"""The command line's front door: every command by name, imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from agentlightning import __version__
from agentlightning.errors import AgentLightningError, ConfigError, DataError

_COMMANDS = {
    "train": ("agentlightning.cli.train:train", "Make an agent better, as a config file says."),
    "eval": ("agentlightning.cli.train:eval_", "Measure an agent on tasks; nothing is learned."),
    "inspect": ("agentlightning.cli.train:inspect", "Show what would be optimised in an agent."),
    "init": ("agentlightning.cli.project:init", "Write a config file for an agent and its tasks."),
    "diff": ("agentlightning.cli.policy:diff", "Show what a policy changes, or how two differ."),
    "ls": ("agentlightning.cli.show:ls", "List the runs of a store."),
    "show": ("agentlightning.cli.show:show", "Show a run, or one rollout step by step."),
    "stats": ("agentlightning.cli.stats:stats", "Success, reward, failures, cost and latency, from the store alone."),
    "export": ("agentlightning.cli.data:export", "Write trajectories: jsonl, parquet, sft, dpo, otlp."),
    "import": ("agentlightning.cli.data:import_", "Read trajectories: jsonl, parquet, chat logs, spans."),
    "store": ("agentlightning.cli.store:store", "Copy, check and measure stores."),
    "demo": ("agentlightning.cli.project:demo", "Optimise a small agent end to end, offline, without a key."),
    "doctor": ("agentlightning.cli.project:doctor", "Check this machine and say what will work."),
    "plugins": ("agentlightning.cli.project:plugins", "List algorithms, adapters, rewards and stores, and where from."),
}
USAGE_ERROR, RUN_ERROR, INTERRUPTED = 2, 1, 130


class _Commands(click.Group):
    """Knows its commands' names and help without importing them, so `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="agentlightning")
def cli() -> None:
    """Agent Lightning makes AI agents that already run measurably better, without changing their code."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. What goes wrong on purpose is one message on stderr: exit 2 for bad input, 1 for a failed run."""
    try:
        return cli.main(arguments, prog_name="agentlightning", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE_ERROR)
    except (ConfigError, DataError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(USAGE_ERROR)
    except AgentLightningError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(RUN_ERROR)
    except (KeyboardInterrupt, click.Abort):
        click.echo(
            "stopped. What was done until now is in the store; carry on with: agentlightning train … --resume last",
            err=True,
        )
        sys.exit(INTERRUPTED)
