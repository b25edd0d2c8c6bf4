"""What `serve` and `gateway` do: an endpoint, open until somebody ends it.

A policy with weights is answered by its engine; one with prompts only is sent on, steered, to the provider that the
environment names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from agentlightning.data.resource import Policy
from agentlightning.errors import ConfigError
from agentlightning.gateway.providers import Providers, one_provider, providers_of
from agentlightning.gateway.served import Served
from agentlightning.gateway.server import Gateway
from agentlightning.trainer.learning import loaded_predict
from agentlightning.trainer.own_loop import on_own_loop
from agentlightning.trainer.policy_folder import WEIGHTS_FOLDER, SavedEngine, load_policy, read_policy
from agentlightning.trainer.weights import Weights, make_engine


def run(policy: str | None, model: str | None, **options: Any) -> None:
    """Serve until interrupted. ConfigError, DataError or ModelError for what cannot be served."""
    with _served(policy, model) as (served, told):
        _run(served, told, **options)


def _run(served: Served, told: str, *, upstream: str | None, host: str, port: int, token: str | None) -> None:
    providers = one_provider(upstream, os.environ.get("OPENAI_API_KEY", "")) if upstream else providers_of()
    with _ended_by_sigterm(), Gateway(served=served, providers=providers, host=host, port=port, token=token) as running:
        _refuse_circle(running, providers)
        click.echo(f"{told}\nanything else goes to {providers['openai'].base_url}")
        click.echo(f"models: {', '.join(served.models()) or 'any'}")
        click.echo(f"\n  OPENAI_BASE_URL={running.base_url}\n  OPENAI_API_KEY={running.token}\n\nCtrl-C stops it.")
        try:
            running.wait()
        except KeyboardInterrupt:
            click.echo("stopped")


def _refuse_circle(running: Gateway, providers: Providers) -> None:
    if any(provider.base_url.startswith(running.url) for provider in providers.values()):
        raise ConfigError(
            f"OPENAI_BASE_URL (or --upstream) is this endpoint's own address, {running.url}. Set it only for the "
            "programs that call it, not where it is started."
        )


@contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """Service managers ask with SIGTERM; it ends the endpoint as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _served(path: str | None, model: str | None) -> Generator[tuple[Served, str]]:
    """What is served, and a sentence about it. The engine, where there is one, is up before anybody can ask."""
    if path is None:
        yield Served(), "no policy: calls pass as they are"
        return
    saved, policy = read_policy(path), load_policy(path)
    predict = loaded_predict(saved)
    engine = _engine_of(path, saved.engine, policy, model)
    if engine is None:
        yield Served(policy, predict=predict, model=model or ""), f"policy {policy.id}: prompts, no weights"
        return
    click.echo(f"loading {engine.spec['model']} …", err=True)
    with _weights(Path(path), engine, policy) as weights:
        name = Path(engine.spec["model"]).name
        served = Served(policy, predict=predict, responder=weights, agents=engine.agents, model=name)
        yield served, f"policy {policy.id}, answered by engine {engine.spec['name']!r} with {engine.spec['model']}"


def _engine_of(path: str, saved: SavedEngine | None, policy: Policy, model: str | None) -> SavedEngine | None:
    if saved is not None:
        return saved if model is None else msgspec.structs.replace(saved, spec=saved.spec | {"model": model})
    if model is not None and Path(model).is_dir():
        return SavedEngine({"name": "torch", "model": model})
    if policy.weights:
        raise ConfigError(f"the policy in {path!r} has weights, but does not say of which model: add --model FOLDER.")
    return None


@contextmanager
def _weights(path: Path, engine: SavedEngine, policy: Policy) -> Generator[Weights]:
    folder = (path if path.is_dir() else path.parent) / WEIGHTS_FOLDER
    weights = Weights(make_engine(engine.spec), folder, engine.agents or None)
    try:
        on_own_loop(lambda: weights.recall(policy, folder))
        yield weights
    finally:
        on_own_loop(lambda: _closed(weights))


async def _closed(weights: Weights) -> None:
    await weights.engine.close()
