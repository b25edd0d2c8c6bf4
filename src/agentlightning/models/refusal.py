"""What an unwelcome answer means: try again, ask differently, or tell the user what to do.

Messages quote the provider, with anything that looks like our key taken out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agentlightning.errors import ModelError
from agentlightning.models.endpoint import Endpoint

_KEY_HEADERS = {"authorization", "api-key", "x-api-key"}
_KEY_LIKE = re.compile(r"\bsk-[\w*.-]{6,}|\S*\*{3,}\S*")


def is_transient(status: int, body: bytes) -> bool:
    """May the same request succeed a little later? A spent quota will not."""
    if status == 429:
        return b"insufficient_quota" not in body
    return status in (408, 409) or status >= 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks us to wait (RFC 9110, section 10.2.3: a number or a date), or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text) * unit
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def refusal(endpoint: Endpoint, status: int, body: bytes) -> ModelError:
    """The error for an answer that is not a success: address, status, the provider's words, and the remedy."""
    what = f"{endpoint.address} answered {status} for model {endpoint.model!r}: {said_by(endpoint, body)}"
    return ModelError(f"{what}\n    {_remedy(endpoint, status, body)}")


def said_by(endpoint: Endpoint, body: bytes) -> str:
    """The provider's message without our key, at most 400 characters."""
    message = error_of(body).get("message")
    text = message if isinstance(message, str) and message else body.decode(errors="replace")
    for value in endpoint.headers.values():
        for secret in {value, value.split(" ")[-1]}:
            text = text.replace(secret, "…") if len(secret) > 5 else text
    return _KEY_LIKE.sub("…", " ".join(text.split()))[:400] or "(nothing)"


def error_of(body: bytes) -> dict[str, Any]:
    """The error object, whichever of the usual shapes it has; `message` is a string or absent."""
    try:
        given: Any = json.loads(body)
    except ValueError:
        return {}
    if isinstance(given, list) and given:
        given = given[0]
    if not isinstance(given, dict):
        return {}
    inner: Any = given.get("error") or given.get("detail") or given
    return inner if isinstance(inner, dict) else {"message": inner if isinstance(inner, str) else json.dumps(inner)}


def _remedy(endpoint: Endpoint, status: int, body: bytes) -> str:
    if status in (401, 403):
        had = "refused the key" if _KEY_HEADERS & endpoint.headers.keys() else "wants a key and got none"
        return f"It {had}: set {endpoint.key_env} (or api_key_env for this model) to a key that may use this model."
    if status == 404:
        return f"Check the model's name, and that base_url is the part before {endpoint.posted_to}."
    if status == 429 and b"insufficient_quota" in body:
        return "The account has no credit left: top it up, or use another key or model."
    if status == 429:
        return "The rate limit held for every retry: lower the concurrency or wait."
    if status >= 500 or status in (408, 409):
        return "The provider failed on every retry: try again later, or name another model."
    if 300 <= status < 400:
        return "It redirects, which we do not follow with a key in hand: set base_url to where it points."
    return "The request itself was refused: see the provider's message."
