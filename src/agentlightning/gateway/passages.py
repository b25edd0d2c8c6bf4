"""Rollouts that programs in other processes take part in: each has an address and a token of its own.

The address says which rollout it is: `/proxy/rollout/ID/attempt/N/mode/MODE/PROVIDER/…`. Clients that can send no key
(Ollama's) find theirs in it: `…/key/TOKEN/PROVIDER/…`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from agentlightning.data.record import new_id
from agentlightning.errors import RolloutStopped
from agentlightning.gateway.providers import Providers, providers_of
from agentlightning.interception.reporting import REWARD_URL, TOKEN
from agentlightning.interception.scope import Scope

_OTHER_CREDENTIALS = ("ANTHROPIC_AUTH_TOKEN", "AZURE_OPENAI_AD_TOKEN")
_NO_PROXY = ("NO_PROXY", "no_proxy")


class OpenPassage:
    """One rollout's address. `providers` is whom its calls go to when its scope has nobody to answer them."""

    def __init__(self, scope: Scope, root: str, providers: Providers, on_close: Callable[[OpenPassage], None]) -> None:
        self.scope = scope
        self.providers = providers
        self.rollout_id = scope.recorder.rollout_id if scope.recorder is not None else new_id("r")
        self.token = secrets.token_urlsafe(24)
        self.stopped: RolloutStopped | None = None
        self._host = root.partition("://")[2].rpartition(":")[0]
        self._base = f"{root}/proxy/rollout/{self.rollout_id}/attempt/{scope.attempt}/mode/{scope.mode}"
        self._on_close = on_close

    def url(self, provider: str) -> str:
        """The address that stands for a provider's."""
        return f"{self._base}/{provider}"

    def environment(self, before: Mapping[str, str]) -> dict[str, str]:
        """The environment in which every SDK finds this address, and no provider's key."""
        env = {key: value for key, value in before.items() if key not in _OTHER_CREDENTIALS}
        is_old_azure = before.get("OPENAI_API_TYPE", "").startswith("azure")
        openai = self.url("openai/v1")
        env |= {
            "OPENAI_BASE_URL": openai,
            "OPENAI_API_BASE": self.url("azure") if is_old_azure else openai,
            "OPENAI_API_KEY": self.token,
            "ANTHROPIC_BASE_URL": self.url("anthropic"),
            "ANTHROPIC_API_KEY": self.token,
            "AZURE_OPENAI_ENDPOINT": self.url("azure"),
            "AZURE_OPENAI_API_KEY": self.token,
            "OLLAMA_HOST": self.url(f"key/{self.token}/ollama"),
            REWARD_URL: self.url("reward"),
            TOKEN: self.token,
        }
        return env | {name: ",".join(filter(None, [env.get(name), self._host])) for name in _NO_PROXY}

    def close(self) -> None:
        self._on_close(self)


class Passages:
    """Those that are open, by rollout."""

    def __init__(self) -> None:
        self._open: dict[str, OpenPassage] = {}

    def open(self, scope: Scope, root: str, providers: Providers | None = None) -> OpenPassage:
        passage = OpenPassage(scope, root, providers_of() if providers is None else providers, self._closed)
        self._open[passage.rollout_id] = passage
        return passage

    def find(self, rollout_id: str) -> OpenPassage | None:
        return self._open.get(rollout_id)

    def _closed(self, passage: OpenPassage) -> None:
        if self._open.get(passage.rollout_id) is passage:
            del self._open[passage.rollout_id]
