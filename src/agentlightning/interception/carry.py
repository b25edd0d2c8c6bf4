"""Scopes follow the work: into threads the agent starts, tasks it gives to pools, callbacks, and programs it runs.

Python hands a ContextVar to `asyncio` tasks and `to_thread` by itself, but not to `Thread.start`, to thread pools of
either kind (and so not to `loop.run_in_executor`), nor to what is called when a future is done. Only our own variables
are carried, only while in a scope; a pool's own threads are left alone, for they outlive the rollout that first needed
them. A program gets an environment that leads its model calls through a gateway (`handover`), and on to where they
would have gone.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, wraps
from typing import Any

import wrapt

from agentlightning.interception.handover import passage_of
from agentlightning.interception.scope import Scope, current_scope, current_speaker, run_in

_POOLS = ("concurrent.futures.thread", "multiprocessing.pool")
"""Whose threads work for whoever gives them something to do."""
_is_installed = False
_ENV = 10
"""Where `env` stands among Popen's arguments; nobody writes that many without their names."""


def install() -> None:
    """Teach threads, pools, futures and programs to carry scopes. Safe to call again."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    start, submit = threading.Thread.start, ThreadPoolExecutor.submit

    @wraps(start)
    def carrying_start(self: threading.Thread) -> None:
        scope = current_scope()
        if scope is not None and getattr(getattr(self, "_target", None), "__module__", None) not in _POOLS:
            _carry(self, scope)
        start(self)

    @wraps(submit)
    def carrying_submit(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return submit(self, _carried(fn), *args, **kwargs)

    call_when_done = Future[Any].add_done_callback

    @wraps(call_when_done)
    def carrying_callback(self: Future[Any], fn: Callable[[Future[Any]], object]) -> None:
        call_when_done(self, _carried(fn))

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
    Future.add_done_callback = carrying_callback
    wrapt.register_post_import_hook(_teach_thread_pools, "multiprocessing.pool")


def _teach_thread_pools(module: Any) -> None:
    for name in ("apply_async", "_map_async", "imap", "imap_unordered"):  # all others use one of these
        setattr(module.ThreadPool, name, _carrying(getattr(module.ThreadPool, name)))


def _carrying(original: Any) -> Any:
    """A method that gives work to a pool, and may say what to call when it is done."""
    signature = inspect.signature(original)

    @wraps(original)
    def give(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name in given.arguments.keys() & {"func", "callback", "error_callback"}:
            given.arguments[name] = _carried(given.arguments[name])
        return original(*given.args, **given.kwargs)

    return give


def _carried(function: Any) -> Any:
    """The function, to be called in the scope that this code runs in."""
    scope = current_scope()
    return function if scope is None or function is None else partial(run_in, scope, current_speaker(), function)


def _carry(thread: threading.Thread, scope: Scope) -> None:
    agent, own = current_speaker(), vars(thread).get("run")

    def run() -> None:
        vars(thread).pop("run")  # as it was, and without a cycle that would keep the thread alive
        if own is not None:
            vars(thread)["run"] = own
        run_in(scope, agent, thread.run)

    vars(thread)["run"] = run
