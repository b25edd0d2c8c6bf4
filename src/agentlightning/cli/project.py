"""Commands that start something: a project, a plugin, the demo."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from agentlightning.errors import ConfigError

_CONFIG = """\
# What `agentlightning train --config {name}` does. All keys: docs/configuration.md
agent:
  path: {agent}
{type}{tasks}
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
@click.option("--weights", is_flag=True, help="Train an embedded model too: instructions, SFT, then RL. Needs PyTorch.")
def demo(output: str, seed: int, simulated: bool, ollama: bool, vllm: bool, model: str | None, weights: bool) -> None:
    """Optimise a small agent end to end and show what came of it; offline, without a key, unless you say otherwise."""
    if weights:
        from agentlightning.demo.sql.story import tell as tell_of_weights

        if ollama or vllm or model:
            raise ConfigError("--weights trains the embedded model, so --ollama, --vllm and --model do not go with it.")
        tell_of_weights(output=output, seed=seed)
        return
    from agentlightning.demo.story import tell

    local = "ollama" if ollama else "vllm" if vllm else None
    tell(output=output, seed=seed, simulated=simulated, local=local, model=model)


@click.command()
@click.option("--agent", help="Your agent: file.py or file.py:function. Asked for on a terminal.")
@click.option("--tasks", help="Your tasks: a JSONL, CSV or text file. By default those the agent's file holds.")
@click.option("--type", "kind", help="Kind of agent, such as openai_sdk; detected when not given.")
@click.option("--output", default="al_config.yaml", show_default=True)
@click.option("--plugin", metavar="NAME", help="Write a package with an algorithm, a reward and their test instead.")
def init(agent: str | None, tasks: str | None, kind: str | None, output: str, plugin: str | None) -> None:
    """Write a config file for an agent and its tasks, after checking that both can be loaded; or a plugin."""
    if plugin:
        from agentlightning.cli.plugin import write_plugin

        return write_plugin(plugin)
    if Path(output).exists():
        raise ConfigError(f"{output} is there already. Remove it, or write elsewhere: --output other.yaml")
    return _write_config(agent or _ask("Your agent (file.py or file.py:function)", "--agent"), tasks, kind, output)


def _write_config(agent: str, tasks: str | None, kind: str | None, output: str) -> None:
    from agentlightning.trainer.config import config_from
    from agentlightning.trainer.resolve import load_agent
    from agentlightning.trainer.tasks import load_tasks

    loaded = load_agent(config_from({"agent": {"path": agent, **({"type": kind} if kind else {})}}))
    found = loaded.agent
    if tasks is None and loaded.tasks is None:
        tasks = _ask("Your tasks (a JSONL, CSV or text file)", "--tasks")
    num_tasks = len(load_tasks(tasks if tasks is not None else loaded.tasks))
    where = f"tasks: {tasks}" if tasks is not None else f"# tasks: those that {agent} holds under the name `tasks`"
    line = f"  type: {kind or found.adapter.name}\n"
    Path(output).write_text(_CONFIG.format(name=output, agent=agent, tasks=where, type=line), encoding="utf-8")
    click.echo(f"{output}: agent {found.agent_id} ({found.adapter.name}), {num_tasks} tasks.")
    click.echo(f"Next:  agentlightning inspect -c {output}   (one run per task, nothing is learned)")
    click.echo(f"       agentlightning train -c {output}")


def _ask(question: str, option: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"Missing option {option!r}: there is no terminal to ask on.")
    return click.prompt(question)
