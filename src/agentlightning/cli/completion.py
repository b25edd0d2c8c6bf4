"""`completion`: what a shell needs to complete commands, options, runs and configuration keys."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

NAMES = ("agentlightning", "agl")
VARIABLE = "_AGENTLIGHTNING_COMPLETE"
_FILES = {
    "bash": 'eval "$(agentlightning completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(agentlightning completion zsh)" in ~/.zshrc',
    "fish": "agentlightning completion fish > ~/.config/fish/completions/agentlightning.fish",
}


@click.command(epilog="Put " + "; ".join(_FILES.values()) + ".")
@click.argument("shell", type=click.Choice(list(_FILES)))
def completion(shell: str) -> None:
    """Print the completion script of a shell, for `agentlightning` and `agl`."""
    kind = get_completion_class(shell)
    assert kind is not None
    for name in NAMES:
        maker = kind(click.Command(name), {}, name, VARIABLE)
        click.echo(kind.source_template % maker.source_vars())


def complete_setting(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Keys of the configuration that begin with what was typed, as `key.path=`."""
    from agentlightning.trainer.config import Config
    from agentlightning.trainer.config_words import keys

    return [CompletionItem(f"{key}=") for key in keys(Config) if key.startswith(typed)]
