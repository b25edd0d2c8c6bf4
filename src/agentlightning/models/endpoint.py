"""Where a model of ours answers, and with which key.

The key lives in memory only: no repr, record or message shows it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode, urlsplit

import msgspec

from agentlightning.errors import ConfigError, near_miss
from agentlightning.interception.dialects import ChatCompletions, Messages, OllamaChat, Responses

OPENAI_BASE_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI_BASES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")


class _Usual(NamedTuple):
    """Where a dialect is usually spoken, and which environment variables say otherwise."""

    path: str
    base_url: str = OPENAI_BASE_URL
    key_env: str = OPENAI_KEY
    base_url_envs: tuple[str, ...] = _OPENAI_BASES


USUAL = {
    "chat": _Usual(ChatCompletions.path_suffix),
    "responses": _Usual(Responses.path_suffix),
    "messages": _Usual(Messages.path_suffix, "https://api.anthropic.com", "ANTHROPIC_API_KEY", ("ANTHROPIC_BASE_URL",)),
    "ollama": _Usual(OllamaChat.path_suffix, "http://127.0.0.1:11434", "OLLAMA_API_KEY", ("OLLAMA_HOST",)),
}
"""The dialects our own calls are made in."""

_KNOWN = (
    "model",
    "dialect",
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
    dialect: str = "chat"
    """One of USUAL."""
    path: str = ""
    """Posted to, below `base_url`; the dialect's own when empty."""
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
    def posted_to(self) -> str:
        """The path below `base_url`."""
        return self.path or USUAL[self.dialect].path

    @property
    def url(self) -> str:
        """What is posted to."""
        base, path = self.base_url.rstrip("/"), self.posted_to
        if base.endswith("/v1") and path.startswith("/v1/"):  # Anthropic's is written with it and without
            base = base.removesuffix("/v1")
        return f"{base}{path}{f'?{self.query}' if self.query else ''}"

    @property
    def address(self) -> str:
        """Scheme, host and path, fit to be shown: no user name, password or query."""
        parts = urlsplit(self.base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path.rstrip('/')}"

    @classmethod
    def from_spec(cls, spec: str | Mapping[str, Any], env: Mapping[str, str] = os.environ) -> Endpoint:
        """An endpoint from a model name, or from `{model, dialect, base_url, api_key_env, …}`.

        The dialect defaults to Messages for Anthropic's address, and for a model called claude-… where no address is
        said at all; else to chat completions. Address and key default to what the dialect's usual environment variables
        say (OPENAI_BASE_URL and OPENAI_API_KEY, …), then to its vendor; a key may be missing everywhere but at OpenAI
        and Anthropic. `api_version` makes it an Azure endpoint (`api-key` header, query).
        Raises ConfigError for an unknown key, no model, a malformed address, and a key that is missing or unusable.
        """
        given: Mapping[str, Any] = {"model": spec} if isinstance(spec, str) else spec
        _check(given)
        dialect = _dialect(given, env)
        usual = USUAL[dialect]
        base_url = str(given.get("base_url") or _from(env, usual.base_url_envs) or usual.base_url)
        if dialect == "ollama" and "//" not in base_url:  # OLLAMA_HOST is often only host and port
            base_url = f"http://{base_url}"
        if urlsplit(base_url).scheme not in ("http", "https") or not urlsplit(base_url).hostname:
            raise ConfigError(f"base_url {base_url!r} is no address: write it like 'https://api.openai.com/v1'.")
        api_version = given.get("api_version")
        key = _key(given, base_url, usual.key_env, env)
        known = {name: given[name] for name in ("path", "temperature", "max_tokens", "seed") if name in given}
        return cls(
            model=given["model"],
            base_url=base_url.rstrip("/"),
            headers=_auth(key, dialect, is_azure=bool(api_version)) | dict(given.get("headers") or {}),
            query=urlencode({"api-version": api_version}) if api_version else "",
            dialect=dialect,
            key_env=str(given.get("api_key_env") or usual.key_env),
            **known,
        )


def _from(env: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((env[name] for name in names if env.get(name)), None)


def _dialect(given: Mapping[str, Any], env: Mapping[str, str]) -> str:
    if (said := given.get("dialect")) is not None:
        if said not in USUAL:
            raise ConfigError(f"model {given['model']!r}: there is no dialect {said!r}. Known: {', '.join(USUAL)}.")
        return said
    if base_url := given.get("base_url"):
        return "messages" if urlsplit(str(base_url)).hostname == "api.anthropic.com" else "chat"
    is_claude = given["model"].startswith("claude-") and not given.get("path")
    return "messages" if is_claude and not _from(env, _OPENAI_BASES) else "chat"


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


def _key(given: Mapping[str, Any], base_url: str, usual: str, env: Mapping[str, str]) -> str:
    variable = cast(str | None, given.get("api_key_env"))
    key = str(given.get("api_key") or env.get(variable or usual) or "").strip()
    if variable and not key:
        raise ConfigError(f"model {given['model']!r}: the environment variable {variable} (api_key_env) is not set.")
    if not key and urlsplit(base_url).hostname in ("api.openai.com", "api.anthropic.com"):
        raise ConfigError(
            f"model {given['model']!r} at {base_url} needs a key: set {usual}, or name another variable with "
            "api_key_env, or another address with base_url."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        source = "api_key" if given.get("api_key") else variable or usual
        raise ConfigError(f"the key in {source} holds white space or a character no key has; was it pasted whole?")
    return key


def _auth(key: str, dialect: str, *, is_azure: bool) -> dict[str, str]:
    if dialect == "messages":
        return {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
    if not key:
        return {}
    return {"api-key": key} if is_azure else {"authorization": f"Bearer {key}"}
