"""A framework that has changed is still imported, and what is not seen of it is said."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from agentlightning import wrap_agent
from agentlightning.adapters import watching


@pytest.fixture(autouse=True)
def _nothing_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_missing", {})
    monkeypatch.setattr("agentlightning.interception.scope._FINDERS", [])


@pytest.mark.parametrize(("module", "hook"), watching.HOOKS.items(), ids=list(watching.HOOKS))
def test_a_hook_that_finds_nothing_it_leans_on_says_so(module: str, hook: str) -> None:
    watching.listen(module, hook, ModuleType(module))
    said = watching.missing_anywhere()
    assert len(said) == 1 and said[0].startswith("this version of ")


def test_a_class_that_lost_its_method_is_named() -> None:
    watching.listen("langchain_core.tools.base", "runnable_hooks:watch_tools", SimpleNamespace(BaseTool=object))
    assert watching.missing("langchain") == [
        "this version of langchain has no run: calls of its tools are not recorded, and their modes do nothing."
    ]


def test_a_function_agent_tells_of_every_framework_that_may_speak_inside_it() -> None:
    watching.listen("autogen_agentchat.agents._base_chat_agent", "autogen_hooks:watch_agents", SimpleNamespace())
    agent: Any = wrap_agent(lambda question: question)
    assert "this version of autogen has no trace_invoke_agent_span" in agent.adapter.health()[0]
