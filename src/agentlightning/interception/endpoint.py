"""Which model, key and address was the agent seen using? The default for our own optimiser and judge calls.

Kept in memory only: a key never reaches a record.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from agentlightning.interception.exchange import Exchange

_AUTH = ("authorization", "api-key", "x-api-key", "openai-organization", "openai-project")


class SeenEndpoint(msgspec.Struct, frozen=True):
    """Where an agent's call went. `repr` shows no header."""

    model: str
    base_url: str
    """Scheme, host and path up to the dialect's own suffix."""
    query: str
    headers: dict[str, str]
    dialect: str

    def __repr__(self) -> str:
        return f"SeenEndpoint({self.model!r} at {self.base_url})"


def seen_endpoint(exchange: Exchange) -> SeenEndpoint | None:
    """The endpoint of a call that was answered, or None."""
    if exchange.status is None or exchange.status >= 400:
        return None
    call = exchange.to_step("", "").call
    if call is None or not call.model:
        return None
    parts = urlsplit(str(exchange.url))
    path = parts.path.removesuffix(exchange.dialect.path_suffix)
    headers = {key.lower(): value for key, value in exchange.headers.items() if key.lower() in _AUTH}
    return SeenEndpoint(
        model=call.model,
        base_url=f"{parts.scheme}://{parts.netloc}{path}",
        query=parts.query,
        headers=headers,
        dialect=exchange.dialect.name,
    )
