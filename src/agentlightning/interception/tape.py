"""What tools answered before, by tool and arguments, so that a repeat need not touch the world again.

Many rollouts of one task ask the same at the same time: the first to `claim` a call runs it, the others wait for it.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from concurrent.futures import Future
from typing import Any

import msgspec

from agentlightning.interception.recorder import plain

_Key = tuple[str, bytes]
Owner = tuple[int, ...]


class Tape:
    """Results of earlier calls. Filled from the store's steps, added to while recording. Safe to share by threads."""

    def __init__(self) -> None:
        self._results: dict[_Key, Any] = {}
        self._running: dict[_Key, tuple[Future[None], Owner]] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: tuple[str, Any]) -> bool:
        return _key(*key) in self._results

    def get(self, name: str, arguments: Any) -> Any:
        """The recorded result, the caller's own to change; KeyError when there is none."""
        return own_copy(self._results[_key(name, arguments)])

    def put(self, name: str, arguments: Any, result: Any) -> None:
        """Keep a result; the first one stays."""
        with self._lock:
            self._results.setdefault(_key(name, arguments), own_copy(result))

    def claim(self, name: str, arguments: Any, owner: Owner | None = None) -> Future[None] | None:
        """None: run it, then `release`. A future: somebody runs it already; wait, and look again.

        A call made from within itself (by the same `owner`, who is `caller()` when not given) is never told to wait.
        """
        key, owner = _key(name, arguments), owner or caller()
        with self._lock:
            running = self._running.get(key)
            if running is None:
                self._running[key] = (Future(), owner)
                return None
            return running[0] if running[1] != owner else None

    def running(self, name: str, arguments: Any) -> Future[None] | None:
        """Done when the call that somebody runs just now has ended; None when nobody does."""
        with self._lock:
            found = self._running.get(_key(name, arguments))
        return found[0] if found is not None else None

    def release(self, name: str, arguments: Any) -> None:
        """The claimed call ended, with a result on the tape or not."""
        with self._lock:
            running = self._running.pop(_key(name, arguments), None)
        if running is not None:
            running[0].set_result(None)


def own_copy(value: Any) -> Any:
    """A deep copy; the value itself when it cannot be copied (a socket, a lock)."""
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - whatever the value's own methods raise
        return value


def _key(name: str, arguments: Any) -> _Key:
    return name, msgspec.json.encode(plain(arguments), order="deterministic")


def caller() -> Owner:
    """The thread and the task this is called in."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        task = None
    return threading.get_ident(), id(task)
