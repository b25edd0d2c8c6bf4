"""Versions of weights on the server: loaded before the first request that names one, unloaded when long unused.

A version's name is a hash of its content, so a name that is already loaded is loaded rightly. A request holds its
version: it is not unloaded under it, and a new one is loaded beside it. No request waits for a swap.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from agentlightning.engine.vllm.plan import MAX_LOADED
from agentlightning.engine.vllm.server import Server
from agentlightning.errors import ModelError

Save = Callable[[str, Path], Awaitable[None]]
"""Writes a version into a folder, in PEFT's layout."""


class Adapters:
    """For one event loop."""

    def __init__(self, server: Server, folder: Path, save: Save) -> None:
        self._server = server
        self._folder = folder
        self._save = save
        self._loaded: OrderedDict[str, int] = OrderedDict()
        """Version → the server's generation that knows it."""
        self._users: Counter[str] = Counter()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def using(self, version: str) -> AsyncGenerator[str]:
        """The model's name to ask for; it stays there until the block ends."""
        self._users[version] += 1
        try:
            if version:
                await self.make_ready(version)
            yield version or self._server.model_name
        finally:
            self._users[version] -= 1

    async def make_ready(self, version: str) -> None:
        """Now the server knows it. ModelError when it refuses it; ServerLost when it died meanwhile."""
        async with self._lock:
            if self._loaded.get(version) != self._server.generation:
                await self._load(version)
            self._loaded.move_to_end(version)
            await self._unload_oldest()

    def was_forgotten(self, version: str) -> None:
        """The server does not know it any more, whatever we believed."""
        self._loaded.pop(version, None)

    async def _load(self, version: str) -> None:
        generation, place = self._server.generation, self._folder / version
        if not place.is_dir():
            await self._save(version, place)
        body = {"lora_name": version, "lora_path": str(place.resolve())}
        response = await self._server.post("/v1/load_lora_adapter", body)
        if not response.is_success and "already been loaded" not in response.text:
            raise ModelError(_refused(version, response.status_code, response.text))
        self._loaded[version] = generation

    async def _unload_oldest(self) -> None:
        idle = [version for version in self._loaded if not self._users[version]]
        for version in idle[: max(0, len(self._loaded) - MAX_LOADED)]:
            generation = self._loaded.pop(version)
            if generation == self._server.generation:  # an unknown one (404) is unloaded already
                await self._server.post("/v1/unload_lora_adapter", {"lora_name": version})


def _refused(version: str, status: int, text: str) -> str:
    hint = (
        "Start the server with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
        if status in (403, 404, 405)
        else "Its --max-lora-rank must be at least engine.rank, and the server must be able to read the folder."
    )
    return f"the vLLM server did not load the adapter {version} ({status}: {text[:300]}).\n    {hint}"
