"""Inside a scope no framework's cache is asked, and none is told.

A cache above the wire would answer a steered call with what was said under another prompt, and later an unsteered call
with what was said to the steered one.
"""

from __future__ import annotations

from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from agentlightning.adapters.watching import report_missing
from agentlightning.interception.scope import current_scope

_CONSEQUENCE = "a cache may answer with what was said under another prompt."


def watch_chat_models(module: Any) -> None:
    """LangChain's chat models."""
    for name in ("_generate_with_cache", "_agenerate_with_cache"):
        _replace("langchain", module.BaseChatModel, name, _uncached_model)


def watch_text_models(module: Any) -> None:
    """LangChain's models of the older kind, which take a text and give one."""
    for name in ("generate", "agenerate"):
        _replace("langchain", module.BaseLLM, name, _uncached_model)


def watch_graphs(module: Any) -> None:
    """LangGraph's graphs, whose nodes and tasks may be cached. Every way to run one goes through these two."""
    for name in ("stream", "astream"):
        _replace("langgraph", module.Pregel, name, _uncached_graph)


def watch_autogen(module: Any) -> None:
    """AutoGen's `ChatCompletionCache`, a client around another client."""
    for name in ("create", "create_stream"):
        _replace("autogen", module.ChatCompletionCache, name, _passed_by)


def watch_litellm(module: Any) -> None:
    """LiteLLM's `Cache`, whatever it keeps its entries in."""
    for name in ("get_cache", "async_get_cache", "add_cache", "async_add_cache"):
        _replace("litellm", module.Cache, name, _silent)


def _replace(framework: str, kind: Any, name: str, wrap: Any) -> None:
    if hasattr(kind, name):
        setattr(kind, name, wrap(getattr(kind, name)))
    else:
        report_missing(framework, name, _CONSEQUENCE)


def _uncached_model(original: Any) -> Any:
    """Works for the coroutine function too: what it gives is passed on."""

    @wraps(original)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current_scope() is not None and getattr(self, "cache", False) is not False:
            self = self.model_copy(update={"cache": False})
        return original(self, *args, **kwargs)

    return generate


def _uncached_graph(original: Any) -> Any:
    @wraps(original)
    def stream(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current_scope() is not None and getattr(self, "cache", None) is not None:
            self = self.copy({"cache": None})
        return original(self, *args, **kwargs)

    return stream


def _passed_by(original: Any) -> Any:
    """The client inside answers; a coroutine or an asynchronous generator, as the original gives."""
    name = original.__name__

    @wraps(original)
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current_scope() is None or not hasattr(self, "client"):
            return original(self, *args, **kwargs)
        return getattr(self.client, name)(*args, **kwargs)

    return ask


def _silent(original: Any) -> Any:
    """Nothing is found, and nothing is kept."""

    @wraps(original)
    def look(self: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, *args, **kwargs) if current_scope() is None else None

    @wraps(original)
    async def look_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await original(self, *args, **kwargs) if current_scope() is None else None

    return look_async if iscoroutinefunction(original) else look
