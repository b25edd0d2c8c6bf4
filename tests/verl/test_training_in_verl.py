"""A run that verl trains: its trainer asks for rollouts, the agent runs here, the adapter it leaves is the policy."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.trainer.trained_worlds import agent, model_folder, questions, share_of_letters
from tests.verl.jobs_made_here import ON_CPU

from agentlightning import Trainer, load_optimized_agent
from agentlightning.store.open import open_store

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def interpreter(folder: Path) -> str:
    """This environment's Python, which runs verl's trainer on the CPU where it was asked to run verl's entry point."""
    python, path = shlex.quote(sys.executable), shlex.quote(f"{ROOT}")
    return program(
        folder / "python",
        f'export OMP_NUM_THREADS=1 PYTHONPATH="$PYTHONPATH:{path}"\n'
        'case "$*" in *agentlightning.engine.verl.child*)\n'
        f'  shift 3; exec {python} -u {HERE}/verl_on_cpu.py "$@";; esac\n'
        f'exec {python} "$@"',
    )


def trainer(folder: Path, **params: Any) -> Trainer:
    vllm = program(
        folder / "vllm", f'OMP_NUM_THREADS=1 exec {sys.executable} {HERE.parent}/engine/vllm_made_here.py "$@"'
    )
    path = {"ray_kwargs.ray_init.runtime_env.env_vars.PYTHONPATH": f"{ROOT}/src:{ROOT}"}
    settings = {
        "group_size": 8,
        "batch_size": 8,
        "policy_lr": 0.06,
        "num_minibatches": 1,
        "evaluate_every": 2,
        **params,
    }
    return Trainer(
        agent(),
        algorithm=[{"name": "grpo", "params": settings}],
        config={
            "engine": {
                "name": "verl",
                "python": interpreter(folder),
                "command": vllm,
                "rank": 4,
                "max_context_tokens": 256,
                "overrides": ON_CPU | path,
            }
        },
        models={"policy": model_folder()},
        reward=share_of_letters,
        max_epochs=1,
        data_dir=folder / "data",
        output_dir=folder / "out",
        progress=False,
    )


def rounds_told(folder: Path) -> list[str]:
    """What the run's log says of rounds whose weights were measured."""

    async def read() -> list[str]:
        store = open_store(str(folder))
        texts = [stored.record.body["text"] async for stored in store.read("log")]
        await store.close()
        return [text for text in texts if re.match(r"round \d+: success ", text)]

    return asyncio.run(read())


@pytest.mark.timeout(600)
def test_verl_trains_an_agent_that_runs_here_and_its_adapter_is_the_policy(tmp_path: Path) -> None:
    """How much it learns in so few rounds is chance; that the last round is reached, measured and judged is not."""
    said = trainer(tmp_path, iterations=2).train(questions(24))
    assert rounds_told(tmp_path / "data")[-1].startswith("round 2:")
    if version := said.policy.weights.get("small"):
        assert said.verdict != "kept original" and said.final > said.baseline
        assert (tmp_path / "out" / "weights" / version / "adapter_model.safetensors").is_file()
        served = load_optimized_agent(tmp_path / "out", agent())
        assert isinstance(served("say 3"), str)
    else:
        assert said.verdict == "kept original"
