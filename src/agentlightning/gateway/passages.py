"""Rollouts that programs in other processes take part in: each has an address and a token of its own.

The address says which rollout it is: `/proxy/rollout/ID/attempt/N/mode/MODE/PROVIDER/…`. Clients that can send no key
(Ollama's) find theirs in it: `…/key/TOKEN/PROVIDER/…`.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

from agentlightning.data.record import new_id
from agentlightning.errors import RolloutStopped
from agentlightning.gateway.providers import Providers, providers_of
from agentlightning.interception.reporting import REWARD_URL, TOKEN
from agentlightning.interception.scope import Scope

_OTHER_CREDENTIALS = ("ANTHROPIC_AUTH_TOKEN", "AZURE_OPENAI_AD_TOKEN")
_NO_PROXY = ("NO_PROXY", "no_proxy")


class OpenPassage:
    """One rollout's address.

    A token for each set of providers that its programs would have called, had they not been led here: `providers` for
    all of them, else what each one's own environment says.
    """

    def __init__(
        self, scope: Scope, root: str, providers: Providers | None, on_close: Callable[[OpenPassage], None]
    ) -> None:
        self.scope = scope
        self.rollout_id = scope.recorder.rollout_id if scope.recorder is not None else new_id("r")
        self.lanes: dict[str, Providers] = {}
        self.stopped: RolloutStopped | None = None
        self._host = root.partition("://")[2].rpartition(":")[0]
        self._base = f"{root}/proxy/rollout/{self.rollout_id}/attempt/{scope.attempt}/mode/{scope.mode}"
        self._providers = providers
        self._on_close = on_close
        self._lock = threading.Lock()

    @property
    def token(self) -> str:
        """What a program with this process's environment is let in with."""
        return self._token(os.environ)

    def url(self, provider: str) -> str:
        """The address that stands for a provider's."""
        return f"{self._base}/{provider}"

    def environment(self, before: Mapping[str, str]) -> dict[str, str]:
        """The environment in which every SDK finds this address, and no provider's key."""
        if before.get(TOKEN) in self.lanes:
            return dict(before)
        token = self._token(before)
        env = {key: value for key, value in before.items() if key not in _OTHER_CREDENTIALS}
        is_old_azure = before.get("OPENAI_API_TYPE", "").startswith("azure")
        openai = self.url("openai/v1")
        env |= {
            "OPENAI_BASE_URL": openai,
            "OPENAI_API_BASE": self.url("azure") if is_old_azure else openai,
            "OPENAI_API_KEY": token,
            "ANTHROPIC_BASE_URL": self.url("anthropic"),
            "ANTHROPIC_API_KEY": token,
            "AZURE_OPENAI_ENDPOINT": self.url("azure"),
            "AZURE_OPENAI_API_KEY": token,
            "OLLAMA_HOST": self.url(f"key/{token}/ollama"),
            REWARD_URL: self.url("reward"),
            TOKEN: token,
        }
        return env | {name: ",".join(filter(None, [env.get(name), self._host])) for name in _NO_PROXY}

    def close(self) -> None:
        self._on_close(self)

    def _token(self, before: Mapping[str, str]) -> str:
        providers = providers_of(before) if self._providers is None else self._providers
        with self._lock:
            for token, known in self.lanes.items():
                if known == providers:
                    return token
            self.lanes[token := secrets.token_urlsafe(24)] = providers
            return token


class Passages:
    """Those that are open, by rollout. One nobody holds any more (its scope is gone) is closed."""

    def __init__(self) -> None:
        self._open: WeakValueDictionary[str, OpenPassage] = WeakValueDictionary()

    def open(self, scope: Scope, root: str, providers: Providers | None = None) -> OpenPassage:
        passage = OpenPassage(scope, root, providers, self._closed)
        self._open[passage.rollout_id] = passage
        return passage

    def find(self, rollout_id: str) -> OpenPassage | None:
        return self._open.get(rollout_id)

    def _closed(self, passage: OpenPassage) -> None:
        if self._open.get(passage.rollout_id) is passage:
            del self._open[passage.rollout_id]
