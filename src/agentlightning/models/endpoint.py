"""Where a model of ours answers, and with which key.

The key lives in memory only: no repr, record or message shows it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import msgspec

from agentlightning.errors import ConfigError, near_miss

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
_KNOWN = (
    "model",
    "base_url",
    "api_key_env",
    "api_key",
    "api_version",
    "headers",
    "path",
    "temperature",
    "max_tokens",
    "seed",
)


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one address. Every field can be set by hand; `from_spec` reads what users write."""

    model: str
    base_url: str = OPENAI_BASE_URL
    headers: dict[str, str] = {}
    """Authorisation and whatever else the address wants on every request."""
    query: str = ""
    """Azure's `api-version=…`, without the question mark."""
    path: str = "/chat/completions"
    temperature: float | None = None
    """Sent when a call does not say otherwise; None leaves it to the model. The same for the next two."""
    max_tokens: int | None = None
    seed: int | None = None
    key_env: str = OPENAI_KEY
    """Which environment variable the key is expected in, for error messages."""

    def __repr__(self) -> str:
        return f"Endpoint({self.model!r} at {self.address})"

    def __rich_repr__(self) -> Any:  # msgspec's own would list the headers
        yield self.model
        yield "at", self.address

    @property
    def url(self) -> str:
        """What is posted to."""
        return f"{self.base_url.rstrip('/')}{self.path}{f'?{self.query}' if self.query else ''}"

    @property
    def address(self) -> str:
        """Scheme, host and path, fit to be shown: no user name, password or query."""
        parts = urlsplit(self.base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"

    @classmethod
    def from_spec(cls, spec: str | Mapping[str, Any], env: Mapping[str, str] = os.environ) -> Endpoint:
        """An endpoint from a model name, or from `{model, base_url, api_key_env, …}`.

        The address defaults to OPENAI_BASE_URL, OPENAI_API_BASE, then OpenAI itself; the key to OPENAI_API_KEY, and may
        be missing everywhere but at OpenAI. `api_version` makes it an Azure endpoint (`api-key` header, query).
        Raises ConfigError for an unknown key, no model, a malformed address, and a key that is missing or unusable.
        """
        given: Mapping[str, Any] = {"model": spec} if isinstance(spec, str) else spec
        _check(given)
        base_url = str(
            given.get("base_url") or env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_BASE") or OPENAI_BASE_URL
        )
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ConfigError(f"base_url {base_url!r} is no address: write it like 'https://api.openai.com/v1'.")
        api_version = given.get("api_version")
        key = _key(given, base_url, env)
        known = {name: given[name] for name in ("path", "temperature", "max_tokens", "seed") if name in given}
        return cls(
            model=given["model"],
            base_url=base_url.rstrip("/"),
            headers=_auth(key, is_azure=bool(api_version)) | dict(given.get("headers") or {}),
            query=urlencode({"api-version": api_version}) if api_version else "",
            key_env=str(given.get("api_key_env") or OPENAI_KEY),
            **known,
        )


def _check(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in _KNOWN:
            raise ConfigError(f"a model has no setting {name!r}.{near_miss(name, _KNOWN)} Known: {', '.join(_KNOWN)}.")
    if not isinstance(given.get("model"), str) or not given["model"].strip():
        raise ConfigError(f"a model is a name, or a mapping with 'model'; this one has neither: {sorted(given)}.")
    kinds: dict[str, Any] = {
        "path": str,
        "temperature": float | None,
        "max_tokens": int | None,
        "seed": int | None,
        "headers": dict[str, str] | None,
    }
    for name in kinds.keys() & given.keys():
        try:
            msgspec.convert(given[name], kinds[name])
        except msgspec.ValidationError as error:
            raise ConfigError(f"model {given['model']!r}, setting {name!r}: {error}") from error


def _key(given: Mapping[str, Any], base_url: str, env: Mapping[str, str]) -> str:
    variable = cast(str | None, given.get("api_key_env"))
    key = str(given.get("api_key") or env.get(variable or OPENAI_KEY) or "").strip()
    if variable and not key:
        raise ConfigError(f"model {given['model']!r}: the environment variable {variable} (api_key_env) is not set.")
    if not key and urlsplit(base_url).hostname == "api.openai.com":
        raise ConfigError(
            f"model {given['model']!r} at {base_url} needs a key: set {OPENAI_KEY}, or name another variable with "
            "api_key_env, or another address with base_url."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        source = "api_key" if given.get("api_key") else variable or OPENAI_KEY
        raise ConfigError(f"the key in {source} holds white space or a character no key has; was it pasted whole?")
    return key


def _auth(key: str, *, is_azure: bool) -> dict[str, str]:
    if not key:
        return {}
    return {"api-key": key} if is_azure else {"authorization": f"Bearer {key}"}
