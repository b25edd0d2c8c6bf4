"""A copy of an object that holds state, sharing what must not be copied (model clients, tools, functions).

Deep copies stop at locks, queues and clients. Pickling lets us say of each object met on the way: share it, or put a
new one in its place. Nothing is written anywhere, and classes defined inside functions are fine, for they are shared.
"""

from __future__ import annotations

import asyncio
import io
import logging
import pickle
import threading
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from agentlightning.errors import AgentError

_SHARED = (type, FunctionType, BuiltinFunctionType, ModuleType, logging.Logger, logging.LoggerAdapter)
_RENEWED: dict[type, Callable[[Any], Any]] = {
    type(threading.Lock()): lambda _: threading.Lock(),
    type(threading.RLock()): lambda _: threading.RLock(),
    threading.Event: lambda _: threading.Event(),
    asyncio.Lock: lambda _: asyncio.Lock(),
    asyncio.Event: lambda _: asyncio.Event(),
    asyncio.Queue: lambda queue: asyncio.Queue(queue.maxsize),
}


def copy_of(
    thing: Any,
    *,
    shared: tuple[type, ...] = (),
    copied: tuple[type, ...] = (),
    renewed: Mapping[type, Callable[[Any], Any]] | None = None,
) -> Any:
    """A copy of all `thing` holds, but for objects of the `shared` types (unless `copied` names theirs, too).

    `renewed` ones are made anew by a function.

    Raises AgentError naming what cannot be copied.
    """
    makers = {**_RENEWED, **(renewed or {})}
    kept: list[Any] = []

    class Writer(pickle.Pickler):
        def persistent_id(self, obj: Any) -> int | None:
            if isinstance(obj, copied) or not (isinstance(obj, (*_SHARED, *shared)) or type(obj) in makers):
                return None
            kept.append(obj)
            return len(kept) - 1

    class Reader(pickle.Unpickler):
        def __init__(self, file: io.BytesIO) -> None:
            super().__init__(file)
            self._made: dict[int, Any] = {}

        def persistent_load(self, pid: int) -> Any:
            found = kept[pid]
            make = makers.get(type(found))
            if make is None:
                return found
            if id(found) not in self._made:  # two references to one lock stay references to one
                self._made[id(found)] = make(found)
            return self._made[id(found)]

    content = io.BytesIO()
    try:
        Writer(content, protocol=5).dump(thing)
        content.seek(0)
        return Reader(content).load()
    except Exception as error:
        raise AgentError(f"a {type(thing).__name__} cannot be copied: {type(error).__name__}: {error}") from error
