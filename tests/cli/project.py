"""A small project in a folder, and the command run on it as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.trainer.worlds import PROMPT, loud_tasks

AGENT = f"""
import os
import httpx

URL = os.environ["WORLD_URL"]
CLIENT = httpx.Client()

def parrot(question):
    messages = [{{"role": "system", "content": {PROMPT!r}}}, {{"role": "user", "content": question}}]
    reply = CLIENT.post(URL + "/chat/completions", json={{"model": "m", "messages": messages}}, timeout=10)
    return reply.json()["choices"][0]["message"]["content"]
"""


def agl(folder: Path, *arguments: str, typed: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from agentlightning.cli.main import main; main()", *arguments],
        cwd=folder,
        env={**os.environ, **env},
        input=typed if typed is not None else "",
        capture_output=True,
        text=True,
        timeout=100,
    )


def write_project(folder: Path) -> Path:
    (folder / "my_agent.py").write_text(AGENT)
    rows = [f"{task.input},{task.expected}" for task in loud_tasks(20)]
    (folder / "tasks.csv").write_text("input,expected\n" + "\n".join(rows))
    (folder / "config.yaml").write_text(
        "agent: {path: ./my_agent.py}\nalgorithm: {name: apo, params: {rounds: 1, num_candidates: 1}}\n"
        "trainer: {max_epochs: 1}\ntasks: tasks.csv\n"
    )
    return folder
