"""The one event loop of this process on which async agents run, whichever run they belong to.

Agents keep clients at module level, and an async client belongs to the loop that first used it: two runs of one agent
with a loop each would hang on each other's connections. It begins with the first run that needs it and ends with the
last one that holds it.
"""

from __future__ import annotations

import asyncio
import threading

_STOP_SECONDS = 5.0
_lock = threading.Lock()
_shared: list[_Shared] = []


class _Shared:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.num_holders = 0
        self.thread = threading.Thread(
            target=_serve, args=(self.loop,), name="agentlightning-async-agents", daemon=True
        )
        self.thread.start()


class AgentsLoop:
    """One run's hold on it."""

    def __init__(self) -> None:
        self._held: _Shared | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        """The loop, which runs now, if it did not before."""
        with _lock:
            if self._held is None:
                if not _shared:
                    _shared.append(_Shared())
                self._held = _shared[0]
                self._held.num_holders += 1
            return self._held.loop

    def release(self) -> None:
        """Done with it. The last holder ends it, cancelling what still runs there; whoever needs one next waits."""
        with _lock:
            held, self._held = self._held, None
            if held is None:
                return
            held.num_holders -= 1
            if held.num_holders == 0:
                _shared.remove(held)
                held.loop.call_soon_threadsafe(held.loop.stop)
                held.thread.join(_STOP_SECONDS)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        _hang_up(loop)
        loop.close()


def _hang_up(loop: asyncio.AbstractEventLoop) -> None:
    """End the connections that agents' clients keep for later.

    A client used again on another loop finds them dead and opens new ones; on the closed loop it could not even let
    them go ("Event loop is closed").
    """
    for transport in list(getattr(loop, "_transports", {}).values()):
        transport.abort()
    loop.run_until_complete(asyncio.sleep(0))
