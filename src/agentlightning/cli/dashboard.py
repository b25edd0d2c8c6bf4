"""`dashboard`: the runs of a store in the browser, live, until interrupted."""

from __future__ import annotations

import secrets

import click

from agentlightning.cli.store_option import STORE, expect_store
from agentlightning.errors import ConfigError

_DEFAULT_PORT = 8200


@click.command()
@STORE
@click.option(
    "--token", envvar="AGENTLIGHTNING_TOKEN", help="What whoever looks must know; made up and shown when not given."
)
@click.option("--port", default=_DEFAULT_PORT, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others than this machine: with a token.")
def dashboard(store: str, token: str | None, port: int, host: str) -> None:
    """Show the runs of a store in the browser, live, until interrupted. It only reads, and keeps what people rate."""
    import uvicorn

    from agentlightning.dashboard.app import LOOPBACK_NAMES, dashboard_app
    from agentlightning.gateway.server import bound, is_loopback
    from agentlightning.store.open import open_store

    expect_store(store)
    is_local = is_loopback(host)
    if not token and not is_local:
        raise ConfigError(
            f"{host} can be reached from other machines, so the dashboard needs a --token that you choose."
        )
    token = token or secrets.token_urlsafe(24)
    listening = bound(host, port)
    app = dashboard_app(open_store(store), token, LOOPBACK_NAMES if is_local else frozenset())
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/?token={token}"
    click.echo(f"the runs of {store}:\n\n  {address}\n\nCtrl-C stops it.")
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=1)
    uvicorn.Server(config).run([listening])
