"""Which frameworks are listened to, from the moment they are imported, whatever kind of agent uses them.

A plain function may build a team inside; who speaks there and which tools ran is then known all the same. What a hook
leans on and does not find in the installed version is kept, as a sentence for the health of the adapter.
"""

from __future__ import annotations

import sys

import wrapt

_HOOKS = {
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
_installed: set[str] = set()
_missing: dict[str, list[str]] = {}


def install() -> None:
    """Listen to the frameworks that are imported, now or later. Safe to call again."""
    for module, hook in _HOOKS.items():
        if module not in _installed:
            _installed.add(module)
            wrapt.register_post_import_hook(f"agentlightning.adapters.{hook}", module)


def is_anyone_heard() -> bool:
    """Is a framework loaded that names its speakers?"""
    return any(module in sys.modules for module in _HOOKS)


def report_missing(framework: str, name: str, consequence: str) -> None:
    """A hook did not find `name`, so `consequence` (a sentence)."""
    sentence = f"this version of {framework} has no {name}: {consequence}"
    if sentence not in _missing.setdefault(framework, []):
        _missing[framework].append(sentence)


def missing(framework: str) -> list[str]:
    """What hooks of the framework did not find."""
    return list(_missing.get(framework, []))
