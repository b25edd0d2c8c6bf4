"""Scopes follow the work: into threads the agent starts and tasks it submits to executors.

Python hands a ContextVar to `asyncio` tasks and `to_thread` by itself, but not to `Thread.start` and
`ThreadPoolExecutor.submit` (and so not to `loop.run_in_executor`). Only our own variables are carried, only while in a
scope; an executor's own worker threads are left alone, for they outlive the rollout that first needed them.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as pool
from functools import wraps
from typing import Any

from agentlightning.interception.scope import Scope, current_scope, current_speaker, run_in

_is_installed = False


def install() -> None:
    """Teach threads and executors to carry scopes. Safe to call again."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    @wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        scope = current_scope()
        if scope is not None and getattr(self, "_target", None) is not pool._worker:  # pyright: ignore
            _carry(self, scope)
        start(self)

    @wraps(submit)
    def carrying_submit(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        scope = current_scope()
        if scope is None:
            return submit(self, fn, *args, **kwargs)
        return submit(self, run_in, scope, current_speaker(), fn, *args, **kwargs)

    threading.Thread.start = carrying_start
    ThreadPoolExecutor.submit = carrying_submit


def _carry(thread: threading.Thread, scope: Scope) -> None:
    agent, own = current_speaker(), vars(thread).get("run")

    def run() -> None:
        vars(thread).pop("run")  # as it was, and without a cycle that would keep the thread alive
        if own is not None:
            vars(thread)["run"] = own
        run_in(scope, agent, thread.run)

    vars(thread)["run"] = run
