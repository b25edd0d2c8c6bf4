"""Scopes follow the work: into threads the agent starts, tasks it submits to executors, and programs it runs.

Python hands a ContextVar to `asyncio` tasks and `to_thread` by itself, but not to `Thread.start` and
`ThreadPoolExecutor.submit` (and so not to `loop.run_in_executor`). Only our own variables are carried, only while in a
scope; an executor's own worker threads are left alone, for they outlive the rollout that first needed them. A program
gets an environment that leads its model calls through a gateway (`handover`), and on to where they would have gone.
"""

from __future__ import annotations

import os
import subprocess
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as pool
from functools import wraps
from typing import Any

from agentlightning.interception.handover import passage_of
from agentlightning.interception.scope import Scope, current_scope, current_speaker, run_in

_is_installed = False
_ENV = 10
"""Where `env` stands among Popen's arguments; nobody writes that many without their names."""


def install() -> None:
    """Teach threads, executors and programs to carry scopes. Safe to call again."""
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

    run = subprocess.Popen.__init__

    @wraps(run)
    def carrying_run(self: Any, *args: Any, **options: Any) -> None:
        scope = current_scope()
        if scope is None or len(args) > _ENV:
            return run(self, *args, **options)
        before = options.get("env")
        environment = passage_of(scope).environment(os.environ if before is None else before)
        return run(self, *args, **options | {"env": environment})

    threading.Thread.start = carrying_start
    subprocess.Popen.__init__ = carrying_run
    ThreadPoolExecutor.submit = carrying_submit


def _carry(thread: threading.Thread, scope: Scope) -> None:
    agent, own = current_speaker(), vars(thread).get("run")

    def run() -> None:
        vars(thread).pop("run")  # as it was, and without a cycle that would keep the thread alive
        if own is not None:
            vars(thread)["run"] = own
        run_in(scope, agent, thread.run)

    vars(thread)["run"] = run
