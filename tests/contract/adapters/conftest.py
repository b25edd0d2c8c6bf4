"""The cases of the frameworks that are installed here; AGENTLIGHTNING_EXPECT_FRAMEWORKS says which must be."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.contract.adapters.case import Case
from tests.contract.adapters.cases import (
    autogen_case,
    crewai_case,
    langchain_case,
    langgraph_case,
    openai_agents_case,
    plain_cases,
    sdk_cases,
)
from tests.contract.adapters.model import chat_model, messages_model, responses_model
from tests.servers import FakeOpenAI

os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OPENAI_API_KEY": "k",
    "OTEL_SDK_DISABLED": "true",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

NOISE = "DeprecationWarning ImportWarning FutureWarning PendingDeprecationWarning UserWarning ResourceWarning".split()
MODULES = (autogen_case, crewai_case, langchain_case, langgraph_case, openai_agents_case, sdk_cases, plain_cases)
ALL = [case for module in MODULES for case in module.CASES]
INSTALLED = [case for case in ALL if case.is_installed]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = [case for case in INSTALLED if metafunc.function.__name__ not in case.left_out]
        metafunc.parametrize("case", cases, ids=lambda case: type(case).__name__.removesuffix("Case"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Frameworks warn of each other's and their own future; that is not ours to fix."""
    for item in items:
        if "contract/adapters" in item.path.as_posix():
            for kind in NOISE:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(chat_model) as running:
        running.route("/v1/responses", responses_model)
        running.route("/v1/messages", messages_model)
        yield running
        os.environ.pop("OPENAI_BASE_URL", None)


@pytest.fixture
def team(case: Case, server: FakeOpenAI) -> object:
    return case.team(server)
