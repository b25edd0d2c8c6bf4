"""The engine whose weights verl trains: it hands learning over whole, and speaks for the model meanwhile.

Prompts are made and answers are read here, with the token ids that were drawn; only the drawing goes elsewhere. While
verl learns, to its own servers; before and after, to a vLLM server from verl's environment, which has the GPUs then.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, NoReturn

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.engine.base import Handoff, Learning, Order, Pair, Play, Played, Tell, Update
from agentlightning.engine.torch.folders import whole_folder
from agentlightning.engine.torch.loading import outline
from agentlightning.engine.torch.lora import read_adapter
from agentlightning.engine.torch.speaking import Speaker, answered
from agentlightning.engine.verl import launch
from agentlightning.engine.verl.configuration import JobPlan, Place, write
from agentlightning.engine.verl.desk import Desk
from agentlightning.engine.verl.environment import check, look
from agentlightning.engine.vllm.own_loop import OwnLoop
from agentlightning.engine.vllm.plan import ServerPlan
from agentlightning.engine.vllm.served import Served, started
from agentlightning.errors import BudgetExhausted, ConfigError, ModelError

_LIVE = "verl-round-"
_MOST_CONTEXT = 16384
"""Where neither the configuration nor the model says less."""


class VerlEngine:
    """See `Engine` and `LearnsElsewhere`. Trains one adapter; everything but reinforcement learning is refused."""

    def __init__(
        self,
        model: str,
        *,
        python: str | Path | None = None,
        method: Literal["lora", "qlora", "full"] = "lora",
        rank: int = 16,
        alpha: float | None = None,
        gpus: int = 0,
        dtype: str | None = None,
        max_context_tokens: int | None = None,
        max_answer_tokens: int = 2048,
        max_batch: int | None = None,
        gradient_checkpointing: bool = True,
        gpu_memory_share: float = 0.5,
        tool_format: str | None = None,
        command: str | None = None,
        port: int | None = None,
        server_options: Mapping[str, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        host: str = "127.0.0.1",
        start_timeout_seconds: float = 900,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        """`python`: the interpreter of verl's environment. `folder`: where versions are kept; temporary when not given.

        ConfigError, MissingExtra when verl cannot run there (`environment.check`).
        """
        self._python = _interpreter(python, method)
        self._overrides = dict(overrides or {})
        needs_gpus = self._overrides.get("trainer.device") != "cpu"
        check(look(self._python), self._python, gpus=max(gpus, 1), needs_gpus=needs_gpus)
        self._loaded = outline(model)
        stated = int(getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", _MOST_CONTEXT))
        context = min(max_context_tokens or _MOST_CONTEXT, stated)
        self._plan = JobPlan(
            model=model,
            rank=rank,
            alpha=alpha if alpha is not None else 2.0 * rank,
            gpus=max(gpus, 1),
            max_context_tokens=context,
            gpu_memory_share=gpu_memory_share,
            saves_memory=gradient_checkpointing,
            overrides=self._overrides,
        )
        self._server = ServerPlan(
            model=model,
            command=command or str(self._python.parent / "vllm"),
            port=port,
            rank=rank,
            gpu_memory_share=max(gpu_memory_share, 0.8),
            dtype=dtype,
            max_context_tokens=context,
            max_batch=max_batch,
            seed=seed,
            options=server_options or {},
        )
        self._start_timeout_seconds = start_timeout_seconds
        self._host = host
        self._loop = OwnLoop("agentlightning-verl")
        self._speaker = Speaker(
            self._loaded, tool_format=tool_format, max_context=context, max_answer=max_answer_tokens, seed=seed
        )
        self._folder = folder or Path(tempfile.mkdtemp(prefix="agentlightning-verl-"))
        self._leave = None if folder else atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._known: dict[str, Path] = {}
        self._served: Served | None = None
        self._serving = asyncio.Lock()
        self._desk: Desk | None = None
        self._is_closed = False

    @property
    def model(self) -> str:
        return self._loaded.source

    @property
    def max_context_tokens(self) -> int:
        return self._speaker.max_context

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        future: Future[Reply] = Future()
        if self._is_closed:
            future.set_exception(ModelError("the engine was closed before it answered."))
            return future
        return self._loop.submit(lambda: self._answer(call, weights, rollout_id), future)

    def forget(self, rollout_id: str) -> None:
        self._loop.submit(lambda: self._forget(rollout_id))

    def live(self, num_updates: int) -> str:
        return f"{_LIVE}{num_updates}"

    async def hand_off(self, work: Handoff, play: Play, tell: Tell) -> dict[int, str]:
        """Also what was kept until a budget ended it, if one did."""
        place = Place(work.folder)
        if place.latest() < work.num_rounds:
            await self._learned(work, place, play, tell)
        adapters = await launch.merge(self._python, place)
        return {num: await self._shelved(path) for num, path in sorted(adapters.items())}

    async def _learned(self, work: Handoff, place: Place, play: Play, tell: Tell) -> None:
        """The job from start to end. What stops a rollout for good stops it, too."""
        job = launch.Job(self._python, place, num_rounds=work.num_rounds)
        own = asyncio.get_running_loop()
        stopped: asyncio.Future[None] = own.create_future()

        async def played(order: Order) -> Played:
            try:
                return await play(order)
            except BaseException as error:
                if not stopped.done():
                    stopped.set_exception(error)
                raise

        async def from_desk(order: Order) -> Played:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(played(order), own))

        await self._here(self._stop_serving)
        desk = Desk(from_desk, host=self._host)
        running: asyncio.Task[None] | None = None
        try:
            address = await self._here(desk.open)
            self._desk = desk
            start = self._known.get(work.start) if work.start else None
            write(work, self._plan, place, desk=address, start=start)
            _write_key(place.key, desk.key)
            running = asyncio.create_task(job.run(tell))
            await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
            (stopped if stopped.done() else running).result()
        except BudgetExhausted as spent:
            tell(f"verl is stopped, its last checkpoint kept: {spent}", {})
        finally:
            self._desk = None
            stopped.cancel()
            if running is not None:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await job.end()
            await self._here(lambda: desk.close("verl has ended"))

    async def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        agent: str = "",
        learned: Collection[int] | None = None,
    ) -> Sample:
        _refuse("encode")

    async def update(self, samples: Sequence[Sample] | Sequence[Pair], *, adapter: str, learning: Learning) -> Update:
        _refuse("update")

    async def score(self, samples: Sequence[Sample], *, weights: str = "") -> list[list[float]]:
        _refuse("score")

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        _refuse("rate")

    async def values(self, samples: Sequence[Sample], *, adapter: str) -> list[list[float]]:
        _refuse("values")

    async def snapshot(self, adapter: str) -> str:
        _refuse("snapshot")

    async def start_from(self, adapter: str, version: str) -> None:
        _refuse("start_from")

    async def export(self, version: str, folder: Path) -> None:
        _refuse("export")

    async def checkpoint(self, adapter: str, folder: Path) -> None:
        _refuse("checkpoint")

    async def restore(self, adapter: str, folder: Path) -> None:
        _refuse("restore")

    async def save(self, version: str, folder: Path) -> None:
        if version not in self._known:
            raise ModelError(f"weights {version!r} are not known here. Load the folder they were saved to first.")
        with whole_folder(folder) as draft:
            shutil.copytree(self._known[version], draft, dirs_exist_ok=True)

    async def load(self, folder: Path) -> str:
        return await self._shelved(folder)

    async def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._here(self._stop_serving)
            await asyncio.to_thread(self._loop.close)
            if self._leave is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    async def _shelved(self, folder: Path) -> str:
        """A copy by its version's name, which is the one any engine has for the same adapter."""
        version = (await asyncio.to_thread(read_adapter, folder)).name()
        if version not in self._known:
            with whole_folder(self._folder / version) as draft:
                shutil.copytree(folder, draft, dirs_exist_ok=True)
            self._known[version] = self._folder / version
        return version

    async def _here(self, make: Any) -> Any:
        return await asyncio.wrap_future(self._loop.submit(make))

    # Everything below runs on the engine's own loop.

    async def _answer(self, call: Call, weights: str, rollout_id: str) -> Reply:
        desk = self._desk
        if desk is not None:
            if not weights.startswith(_LIVE):
                raise ModelError(
                    "verl has the GPUs while it learns, and answers for the weights it trains only. Run stages of "
                    "engine verl one after another, not in a parallel group."
                )
            return await answered(self._speaker, call, rollout_id, desk.complete)
        served = await self._server_running()
        return await answered(self._speaker, call, rollout_id, lambda row: served.complete(row, weights))

    async def _server_running(self) -> Served:
        async with self._serving:
            if self._served is None:
                server = await started(self._server, "", self._start_timeout_seconds)
                self._served = Served(server, self._folder, self.save)
            return self._served

    async def _stop_serving(self) -> None:
        async with self._serving:
            served, self._served = self._served, None
            if served is not None:
                await served.server.close()

    async def _forget(self, rollout_id: str) -> None:
        self._speaker.forget(rollout_id)


def _interpreter(python: str | Path | None, method: str) -> Path:
    if method != "lora":
        raise ConfigError(f"engine verl trains adapters: engine.method {method} needs engine: torch.")
    if python is None:
        raise ConfigError(
            "engine verl runs in an environment of its own. Set engine.python to that environment's interpreter, such "
            "as /opt/verl/bin/python (docs/verl.md)."
        )
    return Path(python).expanduser().absolute()


def _write_key(path: Path, key: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(key, encoding="utf-8")


def _refuse(what: str) -> NoReturn:
    raise ConfigError(
        f"engine verl takes reinforcement learning over whole (rl, grpo, dr_grpo, gspo, cispo); what was asked of it "
        f"here ({what}) is learned with engine: torch or engine: vllm."
    )
