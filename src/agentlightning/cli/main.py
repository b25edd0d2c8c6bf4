"""The command line's front door: every command by name, imported only when it is used."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from agentlightning import __version__
from agentlightning.errors import AgentLightningError, BudgetExhausted, ConfigError, DataError, MissingExtra, near_miss

_COMMANDS = {
    "train": ("agentlightning.cli.train:train", "Make an agent better, as a config file says."),
    "eval": ("agentlightning.cli.train:eval_", "Measure an agent on tasks; nothing is learned."),
    "resume": ("agentlightning.cli.resume:resume", "Carry an interrupted run on, without paying twice."),
    "compare": (
        "agentlightning.cli.compare:compare",
        "Train with several algorithms and compare them on held-out tasks.",
    ),
    "inspect": ("agentlightning.cli.inspect:inspect", "Show what would be optimised in an agent."),
    "serve": (
        "agentlightning.cli.serve:serve",
        "Put an optimised model or prompt behind an OpenAI-compatible endpoint.",
    ),
    "gateway": ("agentlightning.cli.serve:gateway", "Steer the model calls of programs in any language."),
    "init": ("agentlightning.cli.project:init", "Write a config file for an agent and its tasks, or a plugin."),
    "rate": ("agentlightning.cli.rate:rate", "Go through a run's rollouts and say how good they are."),
    "diff": ("agentlightning.cli.policy:diff", "Show what a policy changes, or how two differ."),
    "ls": ("agentlightning.cli.show:ls", "List the runs of a store."),
    "show": ("agentlightning.cli.show:show", "Show a run, or one rollout step by step."),
    "stats": ("agentlightning.cli.stats:stats", "Success, reward, failures, cost and latency, from the store alone."),
    "export": ("agentlightning.cli.data:export", "Write trajectories: jsonl, parquet, sft, dpo, otlp."),
    "import": ("agentlightning.cli.data:import_", "Read trajectories: jsonl, parquet, chat logs, spans."),
    "dashboard": ("agentlightning.cli.dashboard:dashboard", "Show the runs of a store in the browser, live."),
    "store": ("agentlightning.cli.store:store", "Copy, check, measure and prune stores."),
    "demo": ("agentlightning.cli.project:demo", "Optimise a small agent end to end, offline, without a key."),
    "doctor": ("agentlightning.cli.doctor:doctor", "Check this machine and say what will work."),
    "plugins": ("agentlightning.cli.plugins:plugins", "List what is there to be named in a config, and where from."),
    "completion": ("agentlightning.cli.completion:completion", "Print what a shell needs to complete commands."),
}
RUN_ERROR, USAGE_ERROR, NO_BASELINE, INTERRUPTED = 1, 2, 3, 130
"""What the command exits with when it does not exit with 0; docs/cli.md is the table."""


class _Commands(click.Group):
    """Knows its commands' names and help without importing them, so `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        return getattr(importlib.import_module(module), name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _COMMANDS:
            ctx.fail(f"there is no command {args[0]!r}.{near_miss(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        known = [
            CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return known or super().shell_complete(ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="agentlightning")
def cli() -> None:
    """Agent Lightning makes AI agents that already run measurably better, without changing their code."""


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. What goes wrong on purpose is one message on stderr, and an exit code that says its kind.

    Modules of the working directory can be named, as with `python -m`.
    """
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        return cli.main(arguments, prog_name="agentlightning", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE_ERROR)
    except AgentLightningError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(_exit_code(error))
    except BrokenPipeError:  # whoever read is gone, and need not be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(RUN_ERROR)
    except (KeyboardInterrupt, click.Abort):
        said = "stopped. What was done until now is in the store; carry on with: agentlightning resume"
        click.echo(said, err=True)
        sys.exit(INTERRUPTED)


def _exit_code(error: AgentLightningError) -> int:
    if isinstance(error, BudgetExhausted):  # only before the baseline: later, what was found is handed back
        return NO_BASELINE
    return USAGE_ERROR if isinstance(error, ConfigError | DataError | MissingExtra) else RUN_ERROR
