"""`resume`: carry an interrupted run on, from the configuration that was kept with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agentlightning.cli.store_option import STORE
from agentlightning.errors import ConfigError, near_miss


@click.command()
@click.argument("run", required=False)
@click.option("--config", "-c", "path", help="Read this file instead of the configuration kept with the run.")
@click.option("--json", "is_json", is_flag=True, help="Progress as JSON lines on standard output.")
@STORE
@click.argument("overrides", nargs=-1)
def resume(run: str | None, path: str | None, is_json: bool, store: str, overrides: tuple[str, ...]) -> None:
    """Carry on RUN (by default the last unfinished one of the store), without repeating what it has paid for."""
    from agentlightning.cli.train import finish, trainer_of
    from agentlightning.trainer.config import load_config

    if run and "=" in run:  # the run was left out, and this is an override
        run, overrides = None, (run, *overrides)
    run_id, body = _find(store, run)
    config = load_config(path, overrides) if path else _kept(run_id, body, overrides)
    if not path:  # the store may have been moved since
        config = config.replace({"store.address": _absolute(store)})
    trainer, tasks = trainer_of(config, is_json=is_json)
    finish(trainer.train(tasks, resume=run_id), is_json=is_json)


def _find(store: str, run: str | None) -> tuple[str, dict[str, Any]]:
    from agentlightning.cli.store_option import with_store
    from agentlightning.store.liveness import is_alive
    from agentlightning.store.statistics import latest_runs

    runs = {id: body for id, body in with_store(store, latest_runs).items() if body.get("kind") == "training"}
    if run is None:
        unfinished = [id for id, body in runs.items() if body.get("status") != "finished"]
        if not unfinished:
            raise ConfigError(f"there is no unfinished run in {store}. (`agentlightning ls --store …` lists them.)")
        run = next((id for id in reversed(unfinished) if not is_alive(runs[id])), unfinished[-1])
    if run not in runs:
        raise ConfigError(f"there is no run {run!r} in {store}.{near_miss(run, runs)} `agentlightning ls` lists them.")
    if runs[run].get("status") == "finished":
        raise ConfigError(f"run {run} is finished already: see `agentlightning show {run}`.")
    return run, runs[run]


def _kept(run_id: str, body: dict[str, Any], overrides: tuple[str, ...]) -> Any:
    """The configuration the run was started with, and the overrides over it."""
    from agentlightning.trainer.config import config_from
    from agentlightning.trainer.config_overrides import from_overrides

    kept = body.get("config") or {}
    if not (kept.get("agent") or {}).get("path"):
        raise ConfigError(
            f"run {run_id} was started from Python, so only Python knows its agent. Carry it on there: "
            f"trainer.train(tasks, resume={run_id!r})"
        )
    if "***" in str(kept):
        raise ConfigError(
            f"run {run_id} used headers or passwords that are not kept with it. Name the file it was started with: "
            f"agentlightning resume {run_id} --config al_config.yaml"
        )
    folder = Path(body.get("folder") or ".")
    config = config_from(kept, folder if folder.is_dir() else Path.cwd())
    return config.replace(
        {setting.origin.removeprefix("override "): setting.value for setting in from_overrides(overrides)}
    )


def _absolute(store: str) -> str:
    return store if "://" in store else str(Path(store).expanduser().resolve())
