"""A vLLM server that answers rows under versions by name, whatever happens to it meanwhile.

A server that dies is started again and asked again; a version that it lost is loaded again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentlightning.engine.torch.row import Row
from agentlightning.engine.vllm.adapters import Adapters, Save
from agentlightning.engine.vllm.asking import request_for, take
from agentlightning.engine.vllm.plan import ServerPlan
from agentlightning.engine.vllm.server import Server, ServerLost
from agentlightning.errors import ModelError

_MAX_ATTEMPTS = 8
_PROBE_TOLERANCE = 1e-4


class Served:
    """A server, and the versions in `folder` (written there by `save` when they are missing). For one event loop."""

    def __init__(self, server: Server, folder: Path, save: Save) -> None:
        self.server = server
        self._adapters = Adapters(server, folder, save)

    async def complete(self, row: Row, version: str) -> None:
        """Sample the row to its end. ModelError when the server refuses it, or cannot be kept alive."""
        take(row, await self._completion(row, version))

    async def prepare(self, version: str) -> None:
        """Load a version, so that the first request that names it does not wait."""
        while True:  # ends: revive raises when the server died too often
            try:
                return await self._adapters.make_ready(version)
            except ServerLost as lost:
                await self.server.revive(lost)

    async def _completion(self, row: Row, version: str) -> dict[str, Any]:
        """Asked again as often as the server has to be started again."""
        for _ in range(_MAX_ATTEMPTS):
            try:
                async with self._adapters.using(version) as name:
                    response = await self.server.post("/v1/completions", request_for(row, name))
            except ServerLost as lost:
                await self.server.revive(lost)
                continue
            if response.status_code == 404 and version:
                self._adapters.was_forgotten(version)  # somebody else started it again
                continue
            if not response.is_success:
                raise ModelError(f"the vLLM server refused a request ({response.status_code}): {response.text[:500]}")
            answer: dict[str, Any] = response.json()
            if answer["choices"][0].get("finish_reason") != "abort":
                return answer
        raise ModelError(f"the vLLM server did not answer one request in {_MAX_ATTEMPTS} attempts.")


async def started(plan: ServerPlan, key: str, start_timeout_seconds: float) -> Server:
    """The server of a plan, once it answers and tells the logprobs that learning needs; else closed, and ModelError."""
    server = Server(plan, api_key=key, start_timeout_seconds=start_timeout_seconds)
    try:
        await server.start()
        await _check_logprobs(server)
    except BaseException:
        await server.close()
        raise
    return server


async def _check_logprobs(server: Server) -> None:
    """A server joined may tell logprobs at temperature 1 whatever was drawn; then ratios would be wrong, unseen."""
    told = [await _top_logprob(server, temperature) for temperature in (1.0, 5.0)]
    if abs(told[0] - told[1]) < _PROBE_TOLERANCE:
        raise ModelError(
            f"the vLLM server at {server.base_url} tells logprobs before temperature, and what is learned from them "
            "would be wrong. Start it with --logprobs-mode processed_logprobs."
        )


async def _top_logprob(server: Server, temperature: float) -> float:
    body = {"model": server.model_name, "prompt": [1], "max_tokens": 1, "temperature": temperature, "logprobs": 1}
    response = await server.post("/v1/completions", body | {"top_p": 1.0, "top_k": 0, "ignore_eos": True})
    if not response.is_success:
        raise ModelError(f"the vLLM server refused a request ({response.status_code}): {response.text[:500]}")
    top: dict[str, float] = response.json()["choices"][0]["logprobs"]["top_logprobs"][0]
    return max(top.values())
