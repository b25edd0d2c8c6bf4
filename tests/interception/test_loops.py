"""An async client at module level meets several event loops: a notebook's, a run's, those of `asyncio.run`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.servers import FakeOpenAI

PROGRAM = Path(__file__).with_name("loop_calls.py")
kinds = pytest.mark.parametrize("kind", ["httpx", "httpx2", "openai", "aiohttp"])


def told(server: FakeOpenAI, kind: str, scene: str) -> list[str]:
    command = [sys.executable, "-W", "ignore::ResourceWarning", str(PROGRAM), server.base_url, kind, scene]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@kinds
def test_a_client_that_a_notebook_used_is_used_by_a_run_and_by_the_notebook_again(kind: str) -> None:
    with FakeOpenAI() as server:
        assert told(server, kind, "notebook") == ["ok"] * 22


@kinds
def test_rollouts_on_one_loop_after_the_other_share_a_client(kind: str) -> None:
    with FakeOpenAI() as server:
        assert told(server, kind, "repeated") == ["ok"] * 6


def test_a_client_that_stays_on_its_loop_keeps_its_connection() -> None:
    with FakeOpenAI() as server:
        assert told(server, "httpx", "one") == ["ok"] * 3
        assert server.num_connections == 1
