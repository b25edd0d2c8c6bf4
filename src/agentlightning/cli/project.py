"""Commands about the project itself: the demo, and what is installed."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table


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

    tell(
        output=output,
        seed=seed,
        simulated=simulated,
        local="ollama" if ollama else "vllm" if vllm else None,
        model=model,
    )


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
