"""The engine on transformers: one thread owns the model; it samples, learns, and samples while it learns.

Callers on any thread or loop leave asks in a queue and are given futures. Learning and everything else that touches
weights are tasks, done one after the other in the order of asking; after each pass of a task the waiting rows are
sampled for about as long as the pass took.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning, Pair, Update
from agentlightning.engine.torch.group import Limits
from agentlightning.engine.torch.learner import Learner
from agentlightning.engine.torch.loading import Loaded, load, require_torch
from agentlightning.engine.torch.sampler import Sampler
from agentlightning.engine.torch.speaking import Speaker, settle
from agentlightning.engine.torch.weights import AdapterPlan, Weights
from agentlightning.errors import ModelError

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A task: rests wherever others may have a turn."""
_SMALL = 100_000_000
"""Models with fewer parameters are computed fastest by a single CPU thread."""


class _Ask(msgspec.Struct, frozen=True):
    call: Call
    weights: str
    rollout_id: str
    future: Future[Reply]


class _Task(msgspec.Struct, frozen=True):
    steps: Steps[Any]
    future: Future[Any]


class TorchEngine:
    """See `Engine`. `model` is a path, a hub name, or what `load` gave."""

    def __init__(
        self,
        model: str | Path | Loaded,
        *,
        method: Literal["lora", "qlora", "full"] = "lora",
        plan: AdapterPlan | None = None,
        device: str | None = None,
        dtype: str | None = None,
        attention: str | None = None,
        tool_format: str | None = None,
        limits: Limits | None = None,
        max_context_tokens: int | None = None,
        max_answer_tokens: int = 2048,
        saves_memory: bool = False,
        num_threads: int | None = None,
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        """`plan` says more about adapters than `method`. `max_answer_tokens`: where a call names no limit.

        `num_threads`: of the CPU; None: one for small models.
        """
        plan = plan or AdapterPlan(method=method)
        options: dict[str, Any] = {"device": device, "dtype": dtype, "attention": attention}
        loaded = model if isinstance(model, Loaded) else load(model, quantisation=plan.quantisation(), **options)
        _set_threads(loaded.model, num_threads)
        self._speaker = Speaker(
            loaded, tool_format=tool_format, max_context=max_context_tokens, max_answer=max_answer_tokens, seed=seed
        )
        self._weights = Weights(
            loaded.model, loaded.tokenizer, plan=plan, source=loaded.source, folder=folder, seed=seed
        )
        self._learner = Learner(self._weights, seed=seed, saves_memory=saves_memory)
        self._sampler = Sampler(self._weights, limits)
        self._inbox: queue.SimpleQueue[_Ask | _Task | Callable[[], None] | None] = queue.SimpleQueue()
        self._tasks: deque[_Task] = deque()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="agentlightning-engine", daemon=True)
        self._thread.start()

    @property
    def model(self) -> str:
        return self._speaker.source

    @property
    def max_context_tokens(self) -> int:
        return self._speaker.max_context

    @property
    def counts(self) -> Mapping[str, int]:
        """`answers` given; calls `continued` with the ids of their history, and those whose history the template
        `rewritten`; prompt tokens that were `read` rather than taken over."""
        return {
            "answers": self._speaker.num_answers,
            "continued": self._speaker.prompts.num_continued,
            "rewritten": self._speaker.prompts.num_rewritten,
            "read": self._sampler.num_read_tokens,
        }

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        future: Future[Reply] = Future()
        self._put(_Ask(call, weights, rollout_id, future), future)
        return future

    def forget(self, rollout_id: str) -> None:
        self._inbox.put(lambda: self._forget(rollout_id))

    async def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        agent: str = "",
        learned: Collection[int] | None = None,
    ) -> Sample:
        return await self._do(lambda: self._speaker.encode(messages, tools, agent, learned))

    async def update(self, samples: Sequence[Sample] | Sequence[Pair], *, adapter: str, learning: Learning) -> Update:
        return await self._task(self._updating(samples, adapter, learning))

    async def score(self, samples: Sequence[Sample], *, weights: str = "") -> list[list[float]]:
        return await self._do(lambda: self._learner.score(samples, weights=weights))

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        return await self._do(lambda: self._learner.rate(samples, adapter=adapter))

    async def values(self, samples: Sequence[Sample], *, adapter: str) -> list[list[float]]:
        return await self._do(lambda: self._learner.values(samples, adapter=adapter))

    async def snapshot(self, adapter: str) -> str:
        return await self._do(lambda: self._weights.snapshot(adapter))

    async def start_from(self, adapter: str, version: str) -> None:
        await self._do(lambda: self._learner.start_from(adapter, version), changes=adapter)

    async def save(self, version: str, folder: Path) -> None:
        await self._do(lambda: self._weights.save(version, Path(folder)))

    async def load(self, folder: Path) -> str:
        return await self._do(lambda: self._weights.load(Path(folder)))

    async def export(self, version: str, folder: Path) -> None:
        await self._do(lambda: self._weights.export(version, Path(folder)))

    async def checkpoint(self, adapter: str, folder: Path) -> None:
        await self._do(lambda: self._learner.checkpoint(adapter, Path(folder)))

    async def restore(self, adapter: str, folder: Path) -> None:
        await self._do(lambda: self._learner.restore(adapter, Path(folder)), changes=adapter)

    async def close(self) -> None:
        """What was asked and not answered ends with a ModelError."""
        self._inbox.put(None)
        await asyncio.to_thread(self._thread.join)

    # Everything below runs on the engine's own thread, but `_put`, `_do` and `_task`.

    def _put(self, entry: _Ask | _Task, future: Future[Any]) -> None:
        if self._is_closed:
            future.set_exception(_closed())
            return
        self._inbox.put(entry)
        if self._is_closed:  # it closed just now, and may not have seen this
            self._empty_inbox()

    async def _do(self, work: Callable[[], T], *, changes: str | None = None) -> T:
        return await self._task(self._steps_of(work, changes))

    async def _task(self, steps: Steps[T]) -> T:
        future: Future[T] = Future()
        self._put(_Task(steps, future), future)
        return await asyncio.wrap_future(future)

    def _steps_of(self, work: Callable[[], T], changes: str | None) -> Steps[T]:
        try:
            yield from ()
            return work()
        finally:
            if changes is not None:
                self._sampler.changed(changes)

    def _updating(self, samples: Sequence[Sample] | Sequence[Pair], adapter: str, learning: Learning) -> Steps[Update]:
        self._sampler.hold(adapter)
        try:
            return (yield from self._learner.updating(samples, adapter=adapter, learning=learning))
        finally:
            self._sampler.changed(adapter)

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._collect(waits=not (self._tasks or self._sampler.is_ready))
                self._turn()
        finally:
            self._is_closed = True
            self._sampler.close(_closed())
            for task in self._tasks:
                settle(task.future, error=_closed())
            self._empty_inbox()
            self._weights.close()

    def _turn(self) -> None:
        """A pass of the task at hand, then sampling for as long; or one step of sampling."""
        started = time.perf_counter()
        if self._tasks:
            self._advance(self._tasks[0])
        until = 2 * time.perf_counter() - started
        while self._sampler.is_ready and not self._is_closed:
            self._sampler.step()
            self._collect(waits=False)
            if time.perf_counter() >= until or not self._tasks:
                break

    def _advance(self, task: _Task) -> None:
        try:
            next(task.steps)
        except StopIteration as done:
            self._tasks.popleft()
            settle(task.future, result=done.value)
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            self._tasks.popleft()
            settle(task.future, error=error)

    def _collect(self, *, waits: bool) -> None:
        """Take in what was asked since."""
        while not self._is_closed:
            try:
                entry = self._inbox.get(block=waits)
            except queue.Empty:
                return
            waits = False
            if entry is None:
                self._is_closed = True
            elif isinstance(entry, _Task):
                self._tasks.append(entry)
            elif isinstance(entry, _Ask):
                self._begin(entry)
            else:
                entry()

    def _empty_inbox(self) -> None:
        while True:
            try:
                entry = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(entry, _Ask | _Task):
                settle(entry.future, error=_closed())

    def _forget(self, rollout_id: str) -> None:
        self._speaker.forget(rollout_id)
        self._sampler.forget(rollout_id)

    def _begin(self, ask: _Ask) -> None:
        try:
            for row in self._speaker.rows(ask.call, ask.rollout_id, ask.future):
                self._sampler.add(row, ask.weights)
        except Exception as error:  # noqa: BLE001 - told to the one who asked
            settle(ask.future, error=error)


def _set_threads(model: Any, wanted: int | None) -> None:
    """Threads that wait for work by spinning cost small models most of their time."""
    torch = require_torch()
    is_small = model.device.type == "cpu" and model.num_parameters() < _SMALL
    if wanted or (is_small and "OMP_NUM_THREADS" not in os.environ):
        torch.set_num_threads(wanted or 1)


def _closed() -> ModelError:
    return ModelError("the engine was closed before it answered.")
