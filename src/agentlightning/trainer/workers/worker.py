"""A worker process: it loads the agent once, and runs it each time it is told to, one rollout at a time.

The agent runs on the main thread, async agents on one loop that stays; another thread reads what the run says. What the
agent prints goes to standard error, for standard input and output are the channel. When the run is gone, so are we.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing.spawn
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from agentlightning import offspring
from agentlightning.adapters.within import joined
from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.trajectory import Reward
from agentlightning.errors import RolloutStopped
from agentlightning.gateway.handover import LoopbackHandover
from agentlightning.interception.endpoint import LOOK_AGAIN_SECONDS, seen_endpoint
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.recorder import Entry, Recorder, Span, plain
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.tools import ToolModes
from agentlightning.trainer.execution import call_around, describe_failure, to_the_end
from agentlightning.trainer.own_loop import refusing
from agentlightning.trainer.workers import messages as m
from agentlightning.trainer.workers.far import FarRun, FarTape
from agentlightning.trainer.workers.origin import load_origin

_UNGUARDED = (
    "this file starts a run while a worker process loads it to find the agent. Put what starts the run under  "
    'if __name__ == "__main__":'
)
_LOAD_TAIL = 3000


class _Telling(Recorder):
    """Tells the run of what begins, too: if this process dies in the middle of it, that is what is left to see."""

    def __init__(self, rollout_id: str, channel: m.Channel, *, on_end: Callable[[Recorder, Entry], None]) -> None:
        super().__init__(rollout_id, on_end=on_end)
        self._channel = channel

    def open_call(self, **call: Any) -> Exchange:
        entry = super().open_call(**call)
        dialect, url = entry.dialect.name, str(entry.url)
        self._channel.send(m.Opened(entry.index, entry.agent, dialect, url, entry.original_body))
        return entry

    def open_span(self, **span: Any) -> Span:
        entry = super().open_span(**span)
        self._channel.send(m.Opened(entry.index, entry.agent, step=self.step(entry)))
        return entry


class Worker:
    """The agent, and the rollout it is at."""

    def __init__(self, channel: m.Channel) -> None:
        self._channel = channel
        self._run = FarRun(channel)
        self._begins: SimpleQueue[m.Begin | m.BeginAround] = SimpleQueue()
        self._handover = LoopbackHandover()
        self._recorder: Recorder | None = None
        self._look_again_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve(self) -> None:
        """Load the agent and run it until the run is gone."""
        load = self._channel.receive()
        assert isinstance(load, m.Load)
        try:
            agent = _loaded(load)
        except BaseException as error:  # noqa: BLE001 - whatever the user's file raises, told in full
            return self._channel.send(m.NotLoaded(_told_in_full(error)))
        threading.Thread(target=self._read, name="agentlightning-worker-reader", daemon=True).start()
        self._channel.send(m.Loaded())
        while True:
            begin = self._begins.get()
            ended = self._rollout(agent, begin) if isinstance(begin, m.Begin) else self._around(agent, begin)
            self._channel.send(ended)

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None:
            match message:
                case m.Begin() | m.BeginAround():
                    self._begins.put(message)
                case m.Told():
                    self._run.told(message)
                case _:
                    self._tell_open()
                    self._channel.send(m.Ended("timeout"))
        offspring.signal_group(os.getpid())

    def _rollout(self, agent: WrappedAgent, begin: m.Begin) -> m.Ended:
        recorder = self._recorder = _Telling(begin.rollout_id, self._channel, on_end=self._step_ended)
        scope = Scope(
            agent.agent_id,
            policy=begin.policy,
            predict=self._run.predict if begin.has_predict else None,
            recorder=recorder,
            admit=self._run.admit,
            tools=ToolModes(agent.tool_modes, FarTape(self._run)),
            responder=self._run if begin.has_responder else None,
            handover=self._handover,
            attempt=begin.attempt,
            mode=begin.mode,
            on_reward=self._rewarded,
        )
        try:
            output = self._given(partial(agent.adapter.invoke, begin.task_input), scope)
        except RolloutStopped as stopped:
            return self._over(scope, m.Ended("stopped", error=str(stopped), num_lost=recorder.num_lost))
        except BaseException as raised:  # noqa: BLE001 - whatever an agent raises is data about the agent
            return self._over(scope, m.Ended("failed", error=describe_failure(raised), num_lost=recorder.num_lost))
        return self._over(scope, m.Ended("succeeded", output=plain(output), num_lost=recorder.num_lost))

    def _around(self, agent: WrappedAgent, begin: m.BeginAround) -> m.Ended:
        try:
            self._given(partial(call_around, agent, begin.name, begin.task), Scope(begin.name))
        except BaseException as raised:  # noqa: BLE001 - the run tells it
            return m.Ended("failed", error=describe_failure(raised))
        return m.Ended("succeeded")

    def _given(self, call: Callable[[], Any], scope: Scope) -> Any:
        """What a call gives in the end, in its scope."""
        with entered(scope):
            result = call()
            if inspect.isgenerator(result):
                return joined(list(result))
        if not inspect.isawaitable(result) and not inspect.isasyncgen(result):
            return result
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(to_the_end(result, scope))

    def _over(self, scope: Scope, ended: m.Ended) -> m.Ended:
        """What was not read to its end is told before the end, as in the run's own process."""
        scope.close()
        self._tell_open()
        self._recorder = None
        return ended

    def _step_ended(self, recorder: Recorder, entry: Entry) -> None:
        endpoint = None
        if time.monotonic() >= self._look_again_at and isinstance(entry, Exchange):
            endpoint = seen_endpoint(entry)
            self._look_again_at = time.monotonic() + (LOOK_AGAIN_SECONDS if endpoint is not None else 0)
        self._channel.send(m.Stepped(recorder.step(entry), endpoint))

    def _tell_open(self) -> None:
        recorder = self._recorder
        for entry in list(recorder.entries) if recorder is not None else []:
            assert recorder is not None
            step = recorder.step(entry)
            if step.latency_seconds is None:
                self._channel.send(m.Stepped(step))

    def _rewarded(self, reward: Reward | None, error: str | None) -> None:
        self._channel.send(m.Rewarded(reward, error))


def _loaded(load: m.Load) -> WrappedAgent:
    with refusing(_UNGUARDED):
        multiprocessing.spawn.prepare(load.preparation)
        agent = load_origin(load.origin)
    agent.agent_id, agent.tool_modes = load.agent_id, dict(load.tools)
    agent.prepare()
    return agent


def _told_in_full(error: BaseException) -> str:
    lines = traceback.format_exception(error)
    own = [line for line in lines if "agentlightning/trainer/workers" not in line and "<frozen" not in line]
    return "".join(own)[-_LOAD_TAIL:].strip()


def main() -> None:
    """Take standard input and output over as the channel, and serve."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
    Worker(m.Channel(incoming, outgoing, m.FromRun)).serve()
