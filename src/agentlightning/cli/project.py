"""Commands about a project: start one, check the machine for it, see the demo and what is installed."""

from __future__ import annotations

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.table import Table

from agentlightning.errors import ConfigError

_PACKAGES = ("openai", "anthropic", "langchain", "langgraph", "autogen-agentchat", "crewai", "openai-agents", "litellm")
_MIN_FREE_GIB = 1.0

_CONFIG = """\
# What `agentlightning train --config {name}` does. All keys: docs/configuration.md
agent:
  path: {agent}
{type}tasks: {tasks}
algorithm: apo
trainer:
  max_epochs: 3
  output_dir: ./optimized_results
  data_dir: ./trajectory_data
budget:
  calls: 1000        # a hard cap on model calls, the agent's and ours together
# reward: expected_match          # by default: expected answers, else a model judges
# models: {{optimizer: gpt-4o}}     # by default: the model the agent itself uses
"""


@click.command()
@click.option("--output", default="./demo_results", show_default=True, help="Where policy, report and data go.")
@click.option("--seed", default=0, show_default=True)
@click.option("--simulated", is_flag=True, help="Use the embedded simulated LLM even when a key or endpoint is set.")
@click.option("--ollama", is_flag=True, help="Use an Ollama server on localhost (port 11434).")
@click.option("--vllm", is_flag=True, help="Use a vLLM server on localhost (port 8000).")
@click.option("--model", help="Model name to ask for; by default the first the endpoint offers, or gpt-4o-mini.")
def demo(output: str, seed: int, simulated: bool, ollama: bool, vllm: bool, model: str | None) -> None:
    """Optimise a small agent end to end and show what came of it; offline, without a key, unless you say otherwise."""
    from agentlightning.demo.story import tell

    local = "ollama" if ollama else "vllm" if vllm else None
    tell(output=output, seed=seed, simulated=simulated, local=local, model=model)


@click.command()
def plugins() -> None:
    """List algorithms, adapters, rewards and stores, and where each comes from."""
    from agentlightning.adapters import ADAPTERS
    from agentlightning.algorithms import ALGORITHMS
    from agentlightning.rewards import REWARDS
    from agentlightning.store import STORES

    table = Table("kind", "name", "from")
    for registry in (ALGORITHMS, ADAPTERS, REWARDS, STORES):
        for name, path in sorted(registry.names().items()):
            table.add_row(registry.kind, name, path)
    Console().print(table)


@click.command()
@click.option("--agent", required=True, help="Your agent: file.py or file.py:function.")
@click.option("--tasks", required=True, help="Your tasks: a JSONL, CSV or text file.")
@click.option("--type", "kind", help="Kind of agent, such as openai_sdk; detected when not given.")
@click.option("--output", default="al_config.yaml", show_default=True)
def init(agent: str, tasks: str, kind: str | None, output: str) -> None:
    """Write a config file for an agent and its tasks, after checking that both can be loaded."""
    from agentlightning.trainer.config import config_from
    from agentlightning.trainer.resolve import load_agent
    from agentlightning.trainer.tasks import load_tasks

    if Path(output).exists():
        raise ConfigError(f"{output} is there already. Remove it, or write elsewhere: --output other.yaml")
    found = load_agent(config_from({"agent": {"path": agent, **({"type": kind} if kind else {})}})).agent
    num_tasks = len(load_tasks(tasks))
    line = f"  type: {kind or found.adapter.name}\n"
    Path(output).write_text(_CONFIG.format(name=output, agent=agent, tasks=tasks, type=line), encoding="utf-8")
    click.echo(f"{output}: agent {found.agent_id} ({found.adapter.name}), {num_tasks} tasks.")
    click.echo(f"Next:  agentlightning inspect -c {output}   (one run per task, nothing is learned)")
    click.echo(f"       agentlightning train -c {output}")


@click.command()
def doctor() -> None:
    """Check this machine and environment, and say what will work."""
    table = Table("", "what", "found")
    is_fine = True
    for level, what, found in _checks():
        is_fine &= level != "✗"
        table.add_row(level, what, found)
    Console().print(table)
    if not is_fine:
        raise SystemExit(1)


def _checks() -> Iterator[tuple[str, str, str]]:
    """(✓ fine, – not there but not needed, ✗ a problem), what was checked, what was found and what to do."""
    yield "✓", "python", platform.python_version()
    for package in _PACKAGES:
        try:
            yield "✓", package, version(package)
        except PackageNotFoundError:
            yield "–", package, "not installed"
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY"):
        yield ("✓", name, "set") if os.environ.get(name) else ("–", name, "not set")
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "ANTHROPIC_BASE_URL"):
        if url := os.environ.get(name):
            yield _reachable(name, url)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield ("✓" if free >= _MIN_FREE_GIB else "✗"), "free disk here", f"{free:.1f} GiB"
    is_writable = os.access(Path.cwd(), os.W_OK)
    yield (
        ("✓" if is_writable else "✗"),
        "this folder",
        "writable" if is_writable else "not writable: results need a place",
    )


def _reachable(name: str, url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=3):
            return "✓", name, f"{parts.hostname}:{port} answers"
    except OSError as error:
        return "✗", name, f"nothing answers at {parts.hostname}:{port} ({error}). Start it, or unset {name}."
