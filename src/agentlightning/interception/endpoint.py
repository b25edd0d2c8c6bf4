"""Which model, key and address was the agent seen using? The default for our own optimiser and judge calls.

Kept in memory only: a key never reaches a record.
"""

from __future__ import annotations

import base64
import re
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from agentlightning.errors import DataError
from agentlightning.interception.dialects import decode_object
from agentlightning.interception.exchange import Exchange

_OF_THE_REQUEST = re.compile(
    r"host|user-agent|accept.*|content-.*|connection|transfer-encoding|idempotency-key|cookie|expect|x-stainless-.*"
    r"|traceparent|tracestate|baggage|x-request-id|x-client-request-id|helicone-request-id"
)
"""Headers that are about one request, or about the library that sends it. All others may be what the endpoint wants:
keys of gateways, a version, an organisation."""

LOOK_AGAIN_SECONDS = 60.0
"""How often the agent's key is looked at again: some expire within the hour, and the agent gets a new one."""


class SeenEndpoint(msgspec.Struct, frozen=True):
    """Where an agent's call went. `repr` shows no header and no query."""

    model: str
    base_url: str
    """Scheme, host and path up to the dialect's own suffix."""
    query: str
    headers: dict[str, str]
    """Those an endpoint may want of every request, names in lower case."""
    dialect: str

    def __repr__(self) -> str:
        return f"SeenEndpoint({self.model!r} at {self.base_url})"


def seen_endpoint(exchange: Exchange) -> SeenEndpoint | None:
    """The endpoint of a call that was answered, and the model the agent asked for there; None for any other.

    A call we answered ourselves reached nobody, so it says nothing about the key."""
    if exchange.status is None or exchange.status >= 400 or exchange.asked is not None:
        return None
    try:
        call = exchange.dialect.call(decode_object(exchange.original_body), exchange.agent, exchange.path)
    except DataError:
        return None
    if not call.model:
        return None
    parts = urlsplit(str(exchange.url))
    path = parts.path.removesuffix(exchange.dialect.path_suffix)
    given = {str(key).lower(): _text(value) for key, value in exchange.headers.items()}
    return SeenEndpoint(
        model=call.model,
        base_url=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}",
        query=parts.query,
        headers=_basic(parts) | {key: value for key, value in given.items() if not _OF_THE_REQUEST.fullmatch(key)},
        dialect=exchange.dialect.name,
    )


def _basic(parts: SplitResult) -> dict[str, str]:
    """What an HTTP library makes of a user and password in the address."""
    if parts.username is None:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
