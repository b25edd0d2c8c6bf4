"""Where a request goes when we do not answer it ourselves: the provider the agent would have called, with its key.

Addresses and keys are what the environment says, as each provider's own SDK reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import msgspec

from agentlightning.interception.dialects import dialect_of

ProviderName = Literal["openai", "anthropic", "azure", "ollama"]
CREDENTIALS = ("authorization", "x-api-key", "api-key")
"""Headers that prove who calls; a caller's never reach a provider, for they hold our token."""


class Provider(msgspec.Struct, frozen=True):
    """One provider. `repr` shows no key."""

    base_url: str
    headers: dict[str, str] = {}
    """Its key, in the header it wants it in."""
    prefix: str = ""
    """What the paths we serve begin with and `base_url` ends with."""

    def __repr__(self) -> str:
        return f"Provider({self.base_url})"

    def url(self, path: str, query: str = "") -> str:
        """Where a path of ours lies there."""
        return f"{self.base_url.rstrip('/')}{path.removeprefix(self.prefix)}{f'?{query}' if query else ''}"


Providers = Mapping[ProviderName, Provider]


def providers_of(env: Mapping[str, str] = os.environ) -> dict[ProviderName, Provider]:
    """The providers an environment names. Azure is among them only when it has an address."""
    key, is_old_azure = env.get("OPENAI_API_KEY", ""), env.get("OPENAI_API_TYPE", "").startswith("azure")
    base = env.get("OPENAI_BASE_URL") or env.get("OPENAI_API_BASE") or "https://api.openai.com/v1"
    found: dict[ProviderName, Provider] = {
        "openai": Provider(base, _bearer(key), "/v1"),
        "anthropic": Provider(env.get("ANTHROPIC_BASE_URL") or "https://api.anthropic.com", _anthropic_key(env)),
        "ollama": Provider(_ollama_address(env.get("OLLAMA_HOST", "")), _bearer(env.get("OLLAMA_API_KEY", ""))),
    }
    if endpoint := env.get("AZURE_OPENAI_ENDPOINT") or (env.get("OPENAI_API_BASE") if is_old_azure else None):
        found["azure"] = Provider(endpoint, _azure_key(env, key))
    return found


def one_provider(base_url: str, key: str = "") -> dict[ProviderName, Provider]:
    """An endpoint that speaks OpenAI's formats (chat, Responses) for whatever is asked."""
    provider = Provider(base_url.rstrip("/"), _bearer(key), "/v1")
    root = Provider(provider.base_url.removesuffix("/v1"), provider.headers)
    return {"openai": provider, "anthropic": root, "ollama": root, "azure": root}


def provider_for(path: str) -> ProviderName:
    """Whose path it is, by its form."""
    dialect = dialect_of(path)
    if (dialect is not None and dialect.name == "messages") or path.startswith("/v1/messages/"):
        return "anthropic"
    if path.startswith("/api/"):
        return "ollama"
    return "azure" if path.startswith("/openai/") else "openai"


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


def _anthropic_key(env: Mapping[str, str]) -> dict[str, str]:
    if key := env.get("ANTHROPIC_API_KEY"):
        return {"x-api-key": key}
    return _bearer(env.get("ANTHROPIC_AUTH_TOKEN", ""))


def _azure_key(env: Mapping[str, str], openai_key: str) -> dict[str, str]:
    if key := env.get("AZURE_OPENAI_API_KEY") or ("" if env.get("AZURE_OPENAI_AD_TOKEN") else openai_key):
        return {"api-key": key}
    return _bearer(env.get("AZURE_OPENAI_AD_TOKEN", ""))


def _ollama_address(given: str) -> str:
    """As Ollama's clients read it: the scheme and the port may be missing, and 0.0.0.0 means this machine."""
    address = given or "127.0.0.1:11434"
    address = address if "://" in address else f"http://{address}"
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    host = host.replace("0.0.0.0", "127.0.0.1")
    has_port = ":" in host.rpartition("]")[2] if host.startswith("[") else ":" in host
    if not has_port and scheme == "http" and not given.startswith("http"):
        host += ":11434"
    return f"{scheme}://{host}{slash}{path}".rstrip("/")
