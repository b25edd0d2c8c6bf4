"""The engine that samples on a vLLM server and learns here: GPUs answer the agents, the torch engine trains adapters.

Both speak the same ids: prompts are made by the torch engine's own code, and what vLLM drew is read by it. After each
change of weights the adapter is saved in PEFT's layout and loaded into the server under its version's name; requests
name the version, so the old one goes on answering those that began with it. A server that dies is started again and
asked again.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.engine.base import VERSION_PREFIX, Learning, Pair, Update
from agentlightning.engine.torch.engine import TorchEngine
from agentlightning.engine.torch.loading import Loaded, load, load_tokenizer
from agentlightning.engine.torch.speaking import Speaker, answered
from agentlightning.engine.torch.weights import AdapterPlan
from agentlightning.engine.vllm.own_loop import OwnLoop
from agentlightning.engine.vllm.plan import ServerPlan
from agentlightning.engine.vllm.served import Served, started
from agentlightning.engine.vllm.server import Server
from agentlightning.errors import ConfigError, ModelError


class VllmEngine:
    """See `Engine`. Starts `vllm serve`, or joins the server at `base_url` (it must read our adapters' folder)."""

    def __init__(
        self,
        model: str,
        *,
        method: Literal["lora", "qlora", "full"] = "lora",
        rank: int = 16,
        alpha: float | None = None,
        device: str | None = None,
        dtype: str | None = None,
        max_context_tokens: int | None = None,
        max_answer_tokens: int = 2048,
        max_batch: int | None = None,
        gradient_checkpointing: bool = False,
        tool_format: str | None = None,
        base_url: str | None = None,
        api_key_env: str | None = None,
        command: str = "vllm",
        port: int | None = None,
        gpu_memory_share: float = 0.45,
        server_options: Mapping[str, Any] | None = None,
        start_timeout_seconds: float = 900,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        """`folder`: where adapters are put for the server; temporary when not given."""
        if method == "full":
            raise ConfigError("engine vllm serves adapters: set engine.method to lora or qlora, or use engine: torch.")
        plan = AdapterPlan(method=method, rank=rank, alpha=alpha if alpha is not None else 2.0 * rank)
        server = ServerPlan(
            model=model,
            base_url=base_url,
            command=command,
            port=port,
            rank=rank,
            method=method,
            gpu_memory_share=gpu_memory_share,
            dtype=dtype,
            max_context_tokens=max_context_tokens,
            max_batch=max_batch,
            seed=seed,
            options=server_options or {},
        )
        self._loop = OwnLoop("agentlightning-vllm")
        self._own_folder = None if folder else Path(tempfile.mkdtemp(prefix="agentlightning-adapters-"))
        if self._own_folder is not None:
            atexit.register(shutil.rmtree, self._own_folder, ignore_errors=True)
        self._server: Server | None = None
        self._learner: TorchEngine | None = None
        try:
            key = os.environ.get(api_key_env or "", "")
            # The server first: it measures free memory while it starts.
            self._server = self._loop.submit(lambda: started(server, key, start_timeout_seconds)).result()
            loaded = load(model, device=device, dtype=dtype, quantisation=plan.quantisation())
            self._learner = TorchEngine(
                loaded,
                plan=plan,
                tool_format=tool_format,
                max_context_tokens=max_context_tokens,
                saves_memory=gradient_checkpointing,
                seed=seed,
            )
        except BaseException:
            self._shut_down()
            raise
        own = Loaded(loaded.model, load_tokenizer(model), loaded.source)  # tokenizers are for one thread each
        self._speaker = Speaker(
            own,
            tool_format=tool_format,
            max_context=_least(max_context_tokens, self._server.max_context_tokens),
            max_answer=max_answer_tokens,
            seed=seed,
        )
        place = folder or self._own_folder or Path()
        self._served = Served(self._server, place, self._learner.save)
        self._current: dict[str, str] = {}
        """Adapter → the version it is now; missing when it has changed."""
        self._is_closed = False

    @property
    def model(self) -> str:
        return self._torch.model

    @property
    def max_context_tokens(self) -> int:
        return self._speaker.max_context

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    @property
    def counts(self) -> Mapping[str, int]:
        """As TorchEngine's, and how often the server was started again."""
        prompts = self._speaker.prompts
        return {
            "answers": self._speaker.num_answers,
            "continued": prompts.num_continued,
            "rewritten": prompts.num_rewritten,
            "restarts": self.server.num_restarts,
        }

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        future: Future[Reply] = Future()
        if self._is_closed:
            future.set_exception(ModelError("the engine was closed before it answered."))
            return future
        return self._loop.submit(lambda: self._answer(call, weights, rollout_id), future)

    def forget(self, rollout_id: str) -> None:
        self._torch.forget(rollout_id)
        self._loop.submit(lambda: self._forget(rollout_id))

    async def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        agent: str = "",
        learned: Collection[int] | None = None,
    ) -> Sample:
        return await self._torch.encode(messages, tools, agent=agent, learned=learned)

    async def update(self, samples: Sequence[Sample] | Sequence[Pair], *, adapter: str, learning: Learning) -> Update:
        try:
            return await self._torch.update(samples, adapter=adapter, learning=learning)
        finally:
            self._current.pop(adapter, None)

    async def score(self, samples: Sequence[Sample], *, weights: str = "") -> list[list[float]]:
        return await self._torch.score(samples, weights=weights)

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        return await self._torch.rate(samples, adapter=adapter)

    async def values(self, samples: Sequence[Sample], *, adapter: str) -> list[list[float]]:
        return await self._torch.values(samples, adapter=adapter)

    async def snapshot(self, adapter: str) -> str:
        """Also loads it into the server, so that the first request of the new version does not wait."""
        version = await self._torch.snapshot(adapter)
        if version:
            await asyncio.wrap_future(self._loop.submit(lambda: self._served.prepare(version)))
        return version

    async def start_from(self, adapter: str, version: str) -> None:
        await self._torch.start_from(adapter, version)
        self._current.pop(adapter, None)

    async def save(self, version: str, folder: Path) -> None:
        await self._torch.save(version, folder)

    async def load(self, folder: Path) -> str:
        return await self._torch.load(folder)

    async def export(self, version: str, folder: Path) -> None:
        await self._torch.export(version, folder)

    async def checkpoint(self, adapter: str, folder: Path) -> None:
        await self._torch.checkpoint(adapter, folder)

    async def restore(self, adapter: str, folder: Path) -> None:
        await self._torch.restore(adapter, folder)
        self._current.pop(adapter, None)

    async def close(self) -> None:
        """What was asked and not answered ends with a ModelError."""
        if not self._is_closed:
            self._is_closed = True
            await asyncio.to_thread(self._shut_down)
            await self._torch.close()

    @property
    def _torch(self) -> TorchEngine:
        assert self._learner is not None
        return self._learner

    def _shut_down(self) -> None:
        if (server := self._server) is not None:
            self._loop.submit(server.close).result()
        self._loop.close()
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    # Everything below runs on the engine's own loop.

    async def _answer(self, call: Call, weights: str, rollout_id: str) -> Reply:
        version = await self._version(weights)
        return await answered(self._speaker, call, rollout_id, lambda row: self._served.complete(row, version))

    async def _version(self, weights: str) -> str:
        """An adapter's name means its weights as they are now."""
        if not weights or weights.startswith(VERSION_PREFIX):
            return weights
        if weights not in self._current:
            self._current[weights] = await self._torch.snapshot(weights)
        return self._current[weights]

    async def _forget(self, rollout_id: str) -> None:
        self._speaker.forget(rollout_id)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit), default=None)
