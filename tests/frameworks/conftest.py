"""Tests of a framework are collected where it is installed; AGENTLIGHTNING_EXPECT_FRAMEWORKS refuses its absence.

With it set, what is about one version of the OpenAI SDK is left to the environments of those versions.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "OPENAI_AGENTS_DISABLE_TRACING": "1", "OTEL_SDK_DISABLED": "true"}
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # it would fetch one
PACKAGES = {
    "autogen": "autogen_agentchat",
    "autogen_tools": "autogen_agentchat",
    "crewai": "crewai",
    "langchain": "langchain",
    "langgraph": "langgraph",
    "litellm": "litellm",
    "openai_agents": "agents",
}
FILES = {f"test_{name}.py": package for name, package in PACKAGES.items()}
collect_ignore = [name for name, package in FILES.items() if find_spec(package) is None]
if os.environ.get("AGENTLIGHTNING_EXPECT_FRAMEWORKS"):
    collect_ignore += [path.name for path in Path(__file__).parent.glob("test_*.py") if path.name not in FILES]
NOISE = "DeprecationWarning ImportWarning FutureWarning PendingDeprecationWarning UserWarning ResourceWarning".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Frameworks warn of each other's and their own future; that is not ours to fix."""
    for item in items:
        if item.path.stem.removeprefix("test_") in PACKAGES:
            for kind in NOISE:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))
