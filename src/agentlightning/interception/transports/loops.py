"""A pooled connection belongs to the loop it was opened on; another one cannot wait for it, or finds it closed.

A run has a loop of its own and a notebook one that never ends, so a client at module level meets both. Whenever a
watched client of httpx comes to another loop than before, the connections it has idle are let go, and it opens new
ones. A session of aiohttp is bound to the loop it was made on; on another one, each call gets a twin of it that has one
connection. The other way round, a run hangs up when it ends (`trainer/agents_loop.py`).

All this leans on private names. Where they are not found nothing is done, and the client fails as it would without us
("bound to a different event loop", "Event loop is closed").
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


def twin_of(library: Any, session: Any) -> Any:
    """aiohttp's session, to make one call with on the running loop: itself where it is at home."""
    loop, connector = asyncio.get_running_loop(), getattr(session, "_connector", None)
    if getattr(session, "_loop", loop) is loop or not isinstance(connector, library.TCPConnector):
        return session
    twin = object.__new__(library.ClientSession)
    ssl: Any = getattr(connector, "_ssl", True)
    own = library.TCPConnector(ssl=ssl, force_close=True)  # so that nobody need close it
    vars(twin).update(vars(session) | {"_loop": loop, "_connector": own})
    return twin


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
