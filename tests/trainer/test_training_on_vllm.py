"""A whole run whose answers come from a vLLM server in another process, while the weights learn here."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.trainer.trained_worlds import agent, demonstrations, model_folder, questions, says_ok

from agentlightning import Trainer, load_optimized_agent

SERVER = Path(__file__).parent.parent / "engine" / "vllm_made_here.py"


def test_a_run_learns_on_adapters_that_vllm_serves_and_its_policy_answers_afterwards(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text(f'#!/bin/sh\nOMP_NUM_THREADS=1 exec {sys.executable} {SERVER} "$@"\n')
    program.chmod(0o755)
    data = str(demonstrations(tmp_path))
    params = {"data": data, "epochs": 6, "patience": 6, "learning_rate": 0.03, "batch_size": 4}
    trainer = Trainer(
        agent(),
        algorithm=[{"name": "sft", "params": params}],
        config={"engine": {"name": "vllm", "command": str(program), "rank": 8, "device": "cpu"}},
        models={"policy": model_folder()},
        reward=says_ok,
        data_dir=tmp_path / "data",
        output_dir=tmp_path / "out",
        progress=False,
    )
    result = trainer.train(questions(24))
    assert result.verdict == "improved"
    version = result.policy.weights["small"]
    assert (tmp_path / "out" / "weights" / version / "adapter_model.safetensors").is_file()
    assert [curve.name for curve in result.curves] == ["loss"] and len(result.curves[0].values) == 6
    assert [winner.final for winner in result.winners] == [result.final]
    assert result.cost.usd in (None, 0.0), "calls to a server of ours are no provider's"
    served = load_optimized_agent(tmp_path / "out", agent())
    said = [served(f"say {number}") for number in range(8)]
    assert said.count("ok") >= 4
