"""A reward said by a program that an agent started: posted to the gateway that its environment names.

Plain HTTP, so that any language can do the same: `POST $AGENTLIGHTNING_REWARD_URL`, the token as a bearer, the reward
as JSON (`value`, `reason`, `name`, `metric`).
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any

import msgspec

from agentlightning.errors import AgentError

REWARD_URL = "AGENTLIGHTNING_REWARD_URL"
TOKEN = "AGENTLIGHTNING_TOKEN"
_SECONDS = 10


def report_reward(url: str, value: Any, reason: str | None, *, name: str, metric: bool) -> None:
    """Post it. AgentError when nobody takes it: a reward must not get lost unnoticed."""
    told = value if isinstance(value, int | float) and value == value else repr(value)
    body = msgspec.json.encode({"value": told, "reason": reason, "name": name, "metric": metric})
    headers = {"authorization": f"Bearer {os.environ.get(TOKEN, '')}", "content-type": "application/json"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(urllib.request.Request(url, body, headers), timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        said = error.read().decode("utf-8", "replace")[:200]
        raise AgentError(f"emit_reward: the reward was turned down ({error.code}): {said}") from error
    except OSError as error:
        raise AgentError(
            f"emit_reward: the run that started this program cannot be reached ({error}). Has its rollout ended? "
            f"Outside of a run, unset {REWARD_URL}."
        ) from error
