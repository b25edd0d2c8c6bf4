"""The demo: an ordinary agent, made better while you watch, in a minute or two, offline.

The same code path as any user's: wrap, train, load. Only the model is special: without a key or an endpoint of your own
it is a simulated one that this package serves on loopback, and the first line printed says so.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from agentlightning.adapters.wrap import wrap_agent
from agentlightning.data.call import Usage
from agentlightning.demo.server import SimulatedServer
from agentlightning.demo.tasks import make_tasks
from agentlightning.errors import MissingExtra, ModelError
from agentlightning.models.prices import price
from agentlightning.trainer.result import TrainingResult
from agentlightning.trainer.trainer import Trainer

LOCAL_SERVERS = {"ollama": "http://127.0.0.1:11434/v1", "vllm": "http://127.0.0.1:8000/v1"}
MAX_CALLS, MAX_USD = 3000, 3.0
"""What the demo may spend on a model that may cost money; the second where its price is known."""
FREE = {"prices": {"simulated-llm": {"input": 0.0, "output": 0.0}}}


def tell(*, output: str, seed: int, simulated: bool, local: str | None, model: str | None) -> TrainingResult:
    """Run the demo and print its story; the result's files lie in `output`."""
    if find_spec("openai") is None:
        raise MissingExtra("the demo's agent uses the openai package:  pip install 'agentlightning[demo]'")
    console = Console(highlight=False, soft_wrap=True)
    with _model(console, simulated=simulated, local=local, model=model) as budget:
        from agentlightning.demo import agent as ordinary

        console.print(f"The agent: {ordinary.__file__} (OpenAI SDK, unchanged).\n", markup=False)
        folder = Path(output)
        agent = wrap_agent(ordinary.triage, agent_type="openai_sdk", algorithm="apo")
        trainer = Trainer(
            agent=agent,
            max_epochs=4,
            seed=seed,
            data_dir=folder / "trajectory_data",
            output_dir=folder / "optimized_results",
            budget=budget,
        )
        tasks = make_tasks()
        result = trainer.train(tasks=tasks)
        _show(console, result, trainer, tasks["test"][0].input)
    return result


def _show(console: Console, result: TrainingResult, trainer: Trainer, ticket: Any) -> None:
    console.print("\n[bold]The whole change[/bold]")
    for line in (result.diff() or "(nothing)").splitlines():
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else ""
        console.print(line, style=style, markup=False)
    better = trainer.load_optimized_agent()
    console.print(f"\nThe agent handed back, on one ticket: {ticket!r} → {better(ticket)!r}", markup=False)
    folder = Path(result.output_dir)
    console.print("\n[bold]Files[/bold]")
    for name, text in {
        "policy.yaml": "the optimised prompt, readable and editable",
        "report.html": "the report; open it in a browser",
        "result.json": "everything measured",
        "trajectories.jsonl": "every rollout",
    }.items():
        console.print(f"  {folder / name}  {text}", markup=False)


@contextmanager
def _model(console: Console, *, simulated: bool, local: str | None, model: str | None) -> Generator[dict[str, Any]]:
    """Point the agent's environment at a model, say which one, and yield the budget for it."""
    environment = os.environ.copy()
    is_configured = bool(environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"))
    try:
        if local is not None:
            url = LOCAL_SERVERS[local]
            os.environ.update(OPENAI_BASE_URL=url, OPENAI_API_KEY="local", DEMO_MODEL=model or _first_model(url, local))
            console.print(f"Model: {os.environ['DEMO_MODEL']} of the {local} server at {url}.")
            yield {}
        elif is_configured and not simulated:
            if model:
                os.environ["DEMO_MODEL"] = model
            budget = _caps(os.environ.get("DEMO_MODEL", "gpt-4o-mini"))
            caps = " and ".join(f"{name} ≤ {value:g}" for name, value in budget.items())
            where = environment.get("OPENAI_BASE_URL", "the OpenAI API")
            console.print(f"Model: yours, at {where}, {caps} (--simulated uses the embedded one instead).")
            os.environ.setdefault("OPENAI_API_KEY", "none")
            yield budget
        else:
            with SimulatedServer() as server:
                os.environ.update(OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="simulated")
                os.environ["DEMO_MODEL"] = "simulated-llm"
                console.print(
                    "Model: a [bold]simulated LLM[/bold] inside this package, served on loopback. No key, no network.\n"
                    "It follows the instructions it is sent by simple rules; its gains are no measure of yours."
                )
                yield FREE
    finally:
        os.environ.clear()
        os.environ.update(environment)


def _caps(model: str) -> dict[str, Any]:
    is_priced = price(model, Usage(input_tokens=1, output_tokens=1)) is not None
    return {"calls": MAX_CALLS, **({"usd": MAX_USD} if is_priced else {})}


def _first_model(url: str, name: str) -> str:
    """The first model a local server offers."""
    try:
        with urllib.request.urlopen(f"{url}/models", timeout=5) as response:
            offered = json.load(response).get("data") or []
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise ModelError(f"no {name} server answers at {url} ({error}). Start it, or leave --{name} out.") from error
    if not offered:
        raise ModelError(f"the {name} server at {url} has no model loaded. Load one, or leave --{name} out.")
    return str(offered[0]["id"])
