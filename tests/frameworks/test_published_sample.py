"""The published sample runs as it is printed, with the SDK of its time; and its modern form with today's."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from agentlightning.demo.server import SimulatedServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "quickstart"
IS_LEGACY = version("openai").startswith("0.")


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    with SimulatedServer() as server:
        addresses = {"OPENAI_API_BASE": server.base_url, "OPENAI_BASE_URL": server.base_url}
        return subprocess.run(
            [sys.executable, str(EXAMPLES / script)],
            cwd=folder,
            env={**os.environ, **addresses, "OPENAI_API_KEY": "simulated", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=100,
        )


def check(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 0, done.stderr
    assert "Improvement not shown" in done.stderr and "强化学习" in done.stdout
    assert "Traceback" not in done.stderr
    assert (folder / "optimized_results" / "policy.yaml").is_file()
    assert (folder / "trajectory_data" / "store.sqlite3").is_file()


def test_the_sample_runs_verbatim(tmp_path: Path) -> None:
    if not IS_LEGACY:
        pytest.skip("the sample is written for openai 0.28")
    check(run("quickstart.py", tmp_path), tmp_path)


def test_its_modern_form_runs(tmp_path: Path) -> None:
    if IS_LEGACY:
        pytest.skip("the modern form needs openai 1 or newer")
    check(run("quickstart_modern.py", tmp_path), tmp_path)
