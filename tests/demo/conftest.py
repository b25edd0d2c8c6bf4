"""One simulated server for the whole room, and the demo's agent pointed at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentlightning.demo import agent
from agentlightning.demo.server import SimulatedServer


@pytest.fixture(scope="session")
def server() -> Iterator[SimulatedServer]:
    with SimulatedServer() as running:
        yield running


@pytest.fixture
def shop(server: SimulatedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The agent talks to the simulated server; the value changes its prompt (`shop.setattr(agent, "SYSTEM", …)`)."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-simulated")
    agent.client.cache_clear()
    yield monkeypatch
    agent.client().close()
    agent.client.cache_clear()
