"""What a request proves its caller with, so that it can be taken out of everything that is kept.

Headers are never recorded. But a server may repeat a key in its error, and an HTTP library the whole address in its
own, so whatever the request carried as a credential is replaced by `[secret]` wherever else it turns up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

_NAMES = re.compile(r"auth|key|token|secret|cookie|session|passw|credential|signature|\bsig\b|\bcode\b", re.IGNORECASE)
_TOKEN = re.compile(r"[^\s;,=\"]{8,}")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]+")
"""Written the same in any part of a URL."""
_SECRET = b"[secret]"
_quote = partial(quote, safe="")


def credentials(headers: Mapping[Any, Any], url: str) -> list[bytes]:
    """The secret values a request carried, longest first.

    Short words without a digit are not secrets: local servers are called with keys such as `anything`, and taking that
    word out of every message would do harm and protect nothing.
    """
    parts = urlsplit(url)
    given = [_text(value) for name, value in headers.items() if _is_telling(name)]
    given += [value for name, value in parse_qsl(parts.query) if _is_telling(name)]
    given += [unquote(part) for part in (parts.username, parts.password) if part]
    tokens = {token for value in given for token in _TOKEN.findall(value) if _is_secret(token)}
    spellings = tokens | {
        write(token) for token in tokens if not _PLAIN.fullmatch(token) for write in (_quote, quote_plus)
    }
    return sorted((form.encode("utf-8", "replace") for form in spellings), key=len, reverse=True)


def without(secrets: list[bytes], content: bytes) -> bytes:
    """The content with `[secret]` in place of each of them."""
    for secret in secrets:
        if secret in content:
            content = content.replace(secret, _SECRET)
    return content


@lru_cache(maxsize=1024)
def _is_telling(name: str | bytes) -> bool:
    return _NAMES.search(_text(name)) is not None


def _is_secret(token: str) -> bool:
    return len(token) >= 16 or any(character.isdigit() for character in token)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
