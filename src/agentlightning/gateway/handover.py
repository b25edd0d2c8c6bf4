"""The handover of a run, or of a process: one gateway on the loopback address, started when it is first needed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from agentlightning.interception.scope import Scope

if TYPE_CHECKING:
    from agentlightning.gateway.passages import OpenPassage
    from agentlightning.gateway.server import Gateway


class LoopbackHandover:
    """Opens passages through a gateway of its own; `close` ends it. Safe to share by threads."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._lock = threading.Lock()

    def open(self, scope: Scope) -> OpenPassage:
        from agentlightning.gateway.server import Gateway  # a web server, which most runs do without

        with self._lock:
            if self._gateway is None:
                self._gateway = Gateway().start()
            return self._gateway.open(scope)

    def close(self) -> None:
        """Stop the gateway, if one was needed."""
        with self._lock:
            gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.stop()
