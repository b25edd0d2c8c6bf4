"""`serve` and `gateway`: what was learned behind an OpenAI-compatible endpoint, for programs of any language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_DEFAULT_PORT = 8100


def _options(command: Callable[..., None]) -> Callable[..., None]:
    """What both commands take."""
    for option in (
        click.option(
            "--token",
            envvar="AGENTLIGHTNING_TOKEN",
            help="What callers send as their API key; made up and shown when not given.",
        ),
        click.option(
            "--port",
            type=click.IntRange(0, 65535),
            default=_DEFAULT_PORT,
            show_default=True,
            help="0 takes a free one.",
        ),
        click.option("--host", default="127.0.0.1", show_default=True, help="Others than this machine: with a token."),
        click.option(
            "--upstream",
            metavar="URL",
            help="Where calls go that no engine answers, with OPENAI_API_KEY; by default where each SDK would go.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("policy", metavar="POLICY")
@click.option("--model", help="Base model to answer with (a folder), or the model to ask upstream.")
@_options
def serve(policy: str, model: str | None, **options: Any) -> None:
    """Put a saved policy (its folder) behind an OpenAI-compatible endpoint, until interrupted.

    Each of its agents is a model there. Chat completions, Responses, Anthropic's Messages and Ollama's API are spoken.
    """
    from agentlightning.cli.serving import run

    run(policy, model, **options)


@click.command()
@click.option("--policy", metavar="POLICY", help="A saved policy to steer calls with.")
@_options
def gateway(policy: str | None, **options: Any) -> None:
    """Pass model calls of other programs on to their provider, steered where a policy says so, until interrupted."""
    from agentlightning.cli.serving import run

    run(policy, None, **options)
