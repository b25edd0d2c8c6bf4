"""`doctor`: what this machine, environment and configuration have, and what will therefore work."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import click

from agentlightning import __version__

if TYPE_CHECKING:
    from agentlightning.trainer.config import Config
    from agentlightning.trainer.config_sections import ModelSection

_SDKS = ("openai", "anthropic", "langchain", "langgraph", "autogen-agentchat", "crewai", "openai-agents", "litellm")
_WEIGHTS = ("torch", "transformers", "peft")
_OTHERS = {"parquet": "pyarrow", "postgres": "psycopg", "s3": "obstore", "gepa": "gepa", "jsonschema": "jsonschema"}
_TRACKERS = ("tensorboard", "mlflow", "wandb", "trackio")
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY")
_URLS = ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL")
_MIN_FREE_GIB = 1.0


class Check(NamedTuple):
    """✓ fine, – not there but not needed, ✗ a problem; what was checked; what was found, and what to do."""

    mark: str
    what: str
    found: str


@click.command()
@click.option("--config", "-c", "path", help="Also check what this config file needs.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object a line.")
def doctor(path: str | None, is_json: bool) -> None:
    """Check this machine, the environment and, with --config, a project; say what will work.

    Exits with 1 when there is a problem.
    """
    checks = [*_machine(), *_packages(), *_environment(), *(_project(path) if path else ())]
    checks += _verdict({check.what: check for check in checks})
    if is_json:
        for check in checks:
            click.echo(json.dumps(check._asdict(), ensure_ascii=False))
    else:
        _print(checks)
    if any(check.mark == "✗" for check in checks):
        raise SystemExit(1)


def _print(checks: list[Check]) -> None:
    from rich.table import Table

    from agentlightning.cli.tables import ID, console

    table = Table("", "what", ID("found"))
    for check in checks:
        table.add_row(*check)
    console().print(table)


def _machine() -> Iterator[Check]:
    yield Check("✓", "python", f"{platform.python_version()} ({sys.executable})")
    yield Check("✓", "agentlightning", __version__)
    yield _gpus()
    yield _sandbox()
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    hint = "" if free >= _MIN_FREE_GIB else f"; less than {_MIN_FREE_GIB:g} GiB is little for a long run"
    yield Check("✓" if free >= _MIN_FREE_GIB else "✗", "free disk here", f"{free:.1f} GiB{hint}")
    is_writable = os.access(Path.cwd(), os.W_OK)
    found = "writable" if is_writable else "not writable: results need a place"
    yield Check("✓" if is_writable else "✗", "this folder", found)


def _sandbox() -> Check:
    from agentlightning.rewards.sandbox import available_mode, health

    return Check("–" if available_mode() == "limits" else "✓", "sandbox", health())


def _gpus() -> Check:
    program = shutil.which("nvidia-smi")
    if program is None:
        return Check("–", "GPUs", "none that nvidia-smi knows; weights can be trained on the CPU, slowly")
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("✗", "GPUs", f"nvidia-smi is there and fails: {error}. Check the driver.")
    gpus = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return Check("✓", "GPUs", f"{len(gpus)}: {'; '.join(gpus)}")


def _packages() -> Iterator[Check]:
    for package in (*_SDKS, *_WEIGHTS, *_OTHERS.values(), *_TRACKERS):
        found = _version(package)
        yield Check("✓" if found else "–", package, found or "not installed")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _environment() -> Iterator[Check]:
    for name in _KEYS:
        yield Check("✓", name, "set") if os.environ.get(name) else Check("–", name, "not set")
    for name in _URLS:
        if url := os.environ.get(name):
            yield _reachable(name, url)


def _reachable(name: str, url: str) -> Check:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            return Check("✓", name, f"{parts.hostname}:{port} answers")
    except OSError as error:
        return Check("✗", name, f"nothing answers at {parts.hostname}:{port} ({error}). Start it, or change {name}.")


def _project(path: str) -> Iterator[Check]:
    """What a configuration needs: itself, its agent, its tasks, the keys and addresses of its models."""
    from agentlightning.errors import AgentLightningError
    from agentlightning.trainer.config import load_config
    from agentlightning.trainer.own_models import OWN_ROLES

    try:
        config = load_config(path)
    except AgentLightningError as error:
        yield Check("✗", path, str(error))
        return
    yield Check("✓", path, "reads well")
    yield from _agent_and_tasks(config)
    for role, model in config.models:
        if model is not None and (role in OWN_ROLES or model.base_url):
            yield _asked(f"models.{role}", model)


def _asked(name: str, model: ModelSection) -> Check:
    """Is its key there, and does something answer where it is asked? Nothing is asked of it."""
    from agentlightning.errors import ConfigError
    from agentlightning.trainer.own_models import address_of

    try:
        return _reachable(name, address_of(model))
    except ConfigError as error:
        return Check("✗", name, str(error))


def _agent_and_tasks(config: Config) -> Iterator[Check]:
    from agentlightning.errors import AgentLightningError
    from agentlightning.trainer.resolve import load_agent
    from agentlightning.trainer.tasks import load_task_splits

    sources = config.task_sources()
    try:
        if config.agent.path:
            loaded = load_agent(config)
            yield Check("✓", "agent", f"{loaded.agent.agent_id} ({loaded.agent.adapter.name})")
            sources = sources if sources is not None else loaded.tasks
    except AgentLightningError as error:
        yield Check("✗", "agent", str(error))
    try:
        if sources is not None:
            yield Check("✓", "tasks", f"{len(load_task_splits(sources).train)} to learn from")
    except AgentLightningError as error:
        yield Check("✗", "tasks", str(error))


def _verdict(found: dict[str, Check]) -> Iterator[Check]:
    """What will work, from what was found."""

    def has(*names: str) -> list[str]:
        return [name for name in names if name in found and found[name].mark == "✓"]

    model = has(*_KEYS, *_URLS)
    yield (
        Check("✓", "→ improve prompts", f"works; models through {', '.join(model)}")
        if model
        else Check("–", "→ improve prompts", "works where the agent's own key or endpoint is set; `demo` needs neither")
    )
    lacking = [name for name in _WEIGHTS if name not in has(*_WEIGHTS)]
    where = "on GPUs" if has("GPUs") else "on the CPU, small models only"
    yield (
        Check("–", "→ train weights", f"needs {', '.join(lacking)}:  pip install 'agentlightning[train]'")
        if lacking
        else Check("✓", "→ train weights", f"works {where}")
    )
    stores = ["folder", *(name for name in ("postgres", "s3") if has(_OTHERS[name]))]
    yield Check("✓", "→ stores", ", ".join(stores))
    yield Check("✓" if has(*_TRACKERS) else "–", "→ trackers", ", ".join(has(*_TRACKERS)) or "none installed")
