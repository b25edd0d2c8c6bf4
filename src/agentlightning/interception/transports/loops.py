"""A pooled connection belongs to the loop it was opened on; another one cannot wait for it, or finds it closed.

A run has a loop of its own and a notebook one that never ends, so a client at module level meets both. Whenever a
watched client comes to another loop than before, the connections it has idle are let go, and it opens new ones. The
other way round, a run hangs up when it ends (`trainer/execution.py`).

httpx and httpx2 keep their connections in private places. Where these are not found nothing is done, and such a client
fails as it would without us ("bound to a different event loop", "Event loop is closed").
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

_last_seen: WeakKeyDictionary[Any, ReferenceType[asyncio.AbstractEventLoop]] = WeakKeyDictionary()


def arrive(client: Any) -> None:
    """The client is about to be used on the running loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio, which has no loops
        return
    last = _last_seen.get(client)
    if last is not None and last() is loop:
        return
    _last_seen[client] = ref(loop)
    for transport in (getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()):
        _let_go_of_idle(getattr(transport, "_pool", None))


def _let_go_of_idle(pool: Any) -> None:
    kept = getattr(pool, "_connections", None)
    if not isinstance(kept, list):
        return
    for connection in [each for each in kept if each.is_idle()]:
        kept.remove(connection)
        transport = _transport_of(connection)
        loop = getattr(transport, "_loop", None)
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(transport.abort)  # when that loop runs again; nobody else may


def _transport_of(connection: Any) -> Any:
    """What asyncio calls the transport, below what is wrapped around it for proxies, protocols and encryption."""
    for inside in ("_connection", "_network_stream", "_stream", "transport_stream", "_transport"):
        while hasattr(connection, inside):
            connection = getattr(connection, inside)
    return connection
