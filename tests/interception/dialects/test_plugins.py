"""A wire format that a plugin brings is seen and steered like ours; a broken one says whose it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import FakeOpenAI

DIALECT = """
from agentlightning.interception.dialects.chat import ChatCompletions

class Converse(ChatCompletions):
    name = "converse"
    path_suffix = "/v2/converse"
"""
AGENT = """
import sys
import httpx
from agentlightning import Trainer, wrap_agent

def agent(question):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    reply = httpx.post(sys.argv[1] + "/v2/converse", json={"model": "m", "messages": messages})
    return reply.json()["choices"][0]["message"]["content"]

measured = Trainer(wrap_agent(agent), progress=False, reward=lambda task, run: 1.0).evaluate(["a", "b"])
print([step.call.messages[0]["content"] for run in measured.trajectories for step in run.steps], measured.cost.calls)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with the plugin, as pip leaves it."""
    metadata = tmp_path / "gateway_dialect-1.2.dist-info"
    metadata.mkdir()
    (tmp_path / "gateway_dialect.py").write_text(DIALECT)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: gateway-dialect\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text("[agentlightning.dialect]\nconverse = gateway_dialect:Converse\n")
    return tmp_path


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=site, env=env, text=True, capture_output=True, timeout=100)


def test_calls_in_a_plugins_wire_format_are_seen(site: Path) -> None:
    with FakeOpenAI() as server:
        server.route("/v2/converse", {"model": "m", "choices": [{"message": {"role": "assistant", "content": "hm"}}]})
        done = run(site, "-c", AGENT, server.url)
    assert done.stdout.strip() == "['Be brief.', 'Be brief.'] 2", done.stderr


def test_a_plugins_wire_format_is_listed_and_a_broken_one_is_named_before_the_first_call(site: Path) -> None:
    assert "gateway-dialect 1.2" in run(site, "-m", "agentlightning", "plugins").stdout
    (site / "gateway_dialect.py").write_text("import nowhere_to_be_found\n")
    with FakeOpenAI() as server:
        done = run(site, "-c", AGENT, server.url)
        assert not server.requests
    assert "the dialect 'converse' of the package gateway-dialect 1.2 cannot be loaded" in done.stderr
