"""Where bytes leave the process. Each library is patched at class level when (and only if) it gets imported."""

from __future__ import annotations

import wrapt

from agentlightning.interception import carry

_TABLE = {
    "httpx": "agentlightning.interception.transports.httpx",
    "httpx2": "agentlightning.interception.transports.httpx",
    "requests": "agentlightning.interception.transports.requests",
    "aiohttp": "agentlightning.interception.transports.aiohttp",
}
_INSTALLED: set[str] = set()


def install() -> None:
    """Watch the transports that are imported, now or later. Safe to call again; clients built earlier are covered."""
    carry.install()
    for library, module in _TABLE.items():
        if library not in _INSTALLED:
            _INSTALLED.add(library)
            wrapt.register_post_import_hook(f"{module}:patch", library)
