"""Which frameworks are listened to, from the moment they are imported, whatever kind of agent uses them.

A plain function may build a team inside; who speaks there and which tools ran is then known all the same. What a hook
leans on and does not find in the installed version is kept, as a sentence for the health of the adapter; a framework
that has changed can never fail to be imported because of us.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from typing import Any

import wrapt

HOOKS = {
    "langchain_core.runnables.config": "runnable_hooks:watch_runs",
    "langchain_core.tools.base": "runnable_hooks:watch_tools",
    "langchain_core.language_models.chat_models": "caches:watch_chat_models",
    "langchain_core.language_models.llms": "caches:watch_text_models",
    "langgraph.pregel.main": "caches:watch_graphs",
    "autogen_ext.models.cache._chat_completion_cache": "caches:watch_autogen",
    "litellm.caching.caching": "caches:watch_litellm",
    "langchain_classic.agents.agent": "runnable_hooks:watch_executors",
    "autogen_agentchat.agents._base_chat_agent": "autogen_hooks:watch_agents",
    "autogen_agentchat.teams._group_chat._chat_agent_container": "autogen_hooks:watch_agents",
    "autogen_core.tools._base": "autogen_tools:watch_tools",
    "autogen_ext.tools.mcp._workbench": "autogen_tools:watch_mcp",
    "autogen_agentchat.agents._code_executor_agent": "autogen_tools:watch_code",
    "agents.run_internal.run_loop": "openai_agents_hooks:watch_runs",
    "agents.agent": "openai_agents_hooks:watch_tools",
    "crewai.hooks": "crewai_hooks:watch_calls",
    "crewai.tools.base_tool": "crewai_hooks:watch_tools",
    "crewai.tools.structured_tool": "crewai_hooks:watch_tools",
}
_ADAPTERS = {"langchain": "langchain", "autogen": "autogen", "agents": "openai_agents"}
"""Beginning of a package's name → the adapter that speaks of it, where they differ."""
_UNSEEN = {
    "tools": "calls of its tools are not recorded, and their modes do nothing.",
    "mcp": "tools of MCP servers are not recorded, and their modes do nothing.",
    "code": "the code it runs is not recorded, and its mode does nothing.",
    "agents": "not every agent in it is told apart.",
    "runs": "not every agent in it is told apart.",
    "calls": "not every agent in it is told apart.",
    "executors": "agent executors are not told apart.",
}
"""What a hook (`watch_…`) that fails means; of a cache's: that it is not kept silent."""
_installed: set[str] = set()
_missing: dict[str, list[str]] = {}


def install() -> None:
    """Listen to the frameworks that are imported, now or later. Safe to call again."""
    for module, hook in HOOKS.items():
        if module not in _installed:
            _installed.add(module)
            wrapt.register_post_import_hook(partial(listen, module, hook), module)


def listen(name: str, hook: str, module: Any) -> None:
    """Run one hook on a framework's module, by its name, that was just imported."""
    file, _, function = hook.partition(":")
    try:
        getattr(importlib.import_module(f"agentlightning.adapters.{file}"), function)(module)
    except AttributeError as error:
        package = name.partition(".")[0]
        framework = _ADAPTERS.get(package.partition("_")[0], package)
        cache = "a cache may answer with what was said under another prompt."
        report_missing(framework, error.name or str(error), _UNSEEN.get(function.removeprefix("watch_"), cache))


def is_anyone_heard() -> bool:
    """Is a framework loaded that names its speakers?"""
    return any(module in sys.modules for module in HOOKS)


def report_missing(framework: str, name: str, consequence: str) -> None:
    """A hook did not find `name`, so `consequence` (a sentence)."""
    sentence = f"this version of {framework} has no {name}: {consequence}"
    if sentence not in _missing.setdefault(framework, []):
        _missing[framework].append(sentence)


def missing(framework: str) -> list[str]:
    """What hooks of the framework did not find."""
    return list(_missing.get(framework, []))


def missing_anywhere() -> list[str]:
    """What hooks of all loaded frameworks did not find."""
    return [sentence for sentences in _missing.values() for sentence in sentences]
