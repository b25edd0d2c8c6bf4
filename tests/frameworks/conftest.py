"""Tests of a framework are collected where it is installed; AGENTLIGHTNING_EXPECT_FRAMEWORKS refuses its absence."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OPENAI_AGENTS_DISABLE_TRACING": "1", "OTEL_SDK_DISABLED": "true"}
PACKAGES = {
    "autogen": "autogen_agentchat",
    "crewai": "crewai",
    "langchain": "langchain",
    "langgraph": "langgraph",
    "openai_agents": "agents",
}
collect_ignore = [f"test_{name}.py" for name, package in PACKAGES.items() if find_spec(package) is None]
NOISE = "DeprecationWarning ImportWarning FutureWarning PendingDeprecationWarning UserWarning ResourceWarning".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Frameworks warn of each other's and their own future; that is not ours to fix."""
    for item in items:
        if item.path.stem.removeprefix("test_") in PACKAGES:
            for kind in NOISE:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
