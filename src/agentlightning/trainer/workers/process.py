"""One worker process, seen from the run: started, told to run the agent, answered when it asks, ended with its own.

A thread reads what it says and answers it, inside the scope of the rollout it is at; another waits for its end. That
end is the end of the rollout, too, however it came: a crash is the agent's, and is told by the rollout's error.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import msgspec

from agentlightning import offspring
from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.data.call import Reply
from agentlightning.data.trajectory import Step
from agentlightning.errors import AgentError, RolloutStopped
from agentlightning.interception.dialects import dialects
from agentlightning.interception.exchange import Exchange
from agentlightning.interception.scope import Scope, entered
from agentlightning.interception.tape import Tape
from agentlightning.interception.tools import ToolModes
from agentlightning.trainer.workers import messages as m
from agentlightning.trainer.workers.far import raised
from agentlightning.trainer.workers.origin import Origin

_PACKAGES = str(Path(__file__).parents[3])
_PROGRAM = f"import sys; sys.path.append({_PACKAGES!r}); from agentlightning.trainer.workers.worker import main; main()"
_STOP_SECONDS = 5.0


class Job(msgspec.Struct):
    """The rollout a worker is at."""

    begin: m.Begin | m.BeginAround
    scope: Scope
    outcome: asyncio.Future[m.Ended]
    loop: asyncio.AbstractEventLoop
    open: dict[int, m.Opened] = msgspec.field(default_factory=dict[int, m.Opened])
    """Calls that have begun and not ended."""

    def tell_open(self) -> None:
        """Put them on record as far as they are known: the worker is gone and will not end them."""
        for begun in self.open.values():
            if (recorder := self.scope.recorder) is not None:
                recorder.add(_unfinished(begun, recorder.rollout_id))


class WorkerProcess:
    """Started when made; `load` waits until the agent is there."""

    def __init__(self) -> None:
        with entered(None):  # it belongs to no scope, whoever needed it first
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            offspring.keep(self._process.pid)
            assert self._process.stdin is not None and self._process.stdout is not None
            self._channel = m.Channel(self._process.stdout, self._process.stdin, m.FromWorker)
            self._job: Job | None = None
            self._asked: dict[int, Future[Reply]] = {}
            self._claims: list[tuple[Tape, str, Any]] = []
            self._has_ended = threading.Event()
            self._is_wanted = True
            threading.Thread(target=self._wait, name="agentlightning-worker-waiter", daemon=True).start()

    @property
    def is_fit(self) -> bool:
        """Can it run another rollout?"""
        return self._is_wanted and not self._has_ended.is_set()

    def load(self, agent: WrappedAgent, origin: Origin) -> None:
        """Have it load the agent. AgentError with what its file raised, when it cannot."""
        with suppress(OSError):
            self._channel.send(m.Load(origin, agent.agent_id, agent.tool_modes, _preparation(origin)))
        answer = self._channel.receive()
        if isinstance(answer, m.Loaded):
            with entered(None):
                threading.Thread(target=self._read, name="agentlightning-worker", daemon=True).start()
            return
        why = answer.why if isinstance(answer, m.NotLoaded) else f"it {self._ending()}"
        self.end()
        self._hang_up()
        raise AgentError(f"a worker process could not load agent {agent.agent_id!r}: {why}")

    def begin(self, job: Job) -> None:
        """Run the agent; `job.outcome` will have how it ended."""
        self._job = job
        with suppress(OSError):  # it has just ended, which its reader will tell
            self._channel.send(job.begin)

    def give_up(self) -> None:
        """Ask it to tell what has not ended, before it is ended."""
        with suppress(OSError):
            self._channel.send(m.GiveUp())

    def end(self) -> None:
        """End it, and everything it started."""
        self._is_wanted = False
        offspring.signal_group(self._process.pid)
        self._has_ended.wait(_STOP_SECONDS)

    def _wait(self) -> None:
        self._process.wait()
        offspring.signal_group(self._process.pid)  # what it left running; that may hold the pipe open, too
        offspring.forget(self._process.pid)
        self._has_ended.set()

    def _read(self) -> None:
        while (message := self._channel.receive()) is not None:
            try:
                self._take(message)
            except OSError:  # it has ended meanwhile; the next read tells
                continue
        text = f"the worker process that ran it {self._ending()}"
        if not self._is_wanted:  # we ended it, so that says nothing of the agent
            self._settle(m.Ended("stopped", error=text))
        elif self._job is not None:
            self._job.tell_open()
            self._settle(m.Ended("failed", error=text))
        for future in list(self._asked.values()):
            future.cancel()
        for tape, tool, arguments in self._claims:
            tape.release(tool, arguments)
        self._hang_up()

    def _hang_up(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                pipe.close()  # pyright: ignore[reportOptionalMemberAccess]

    def _take(self, message: Any) -> None:
        job = self._job
        match message:
            case m.Ended():
                self._settle(message)
            case m.NoLonger(number=number):
                if (future := self._asked.pop(number, None)) is not None:
                    future.cancel()
            case _ if job is None:
                if (number := getattr(message, "number", None)) is not None:
                    self._channel.send(raised(number, RolloutStopped("the rollout has ended")))
            case m.Opened():
                job.open[message.index] = message
            case m.Stepped(step=step, endpoint=endpoint):
                job.open.pop(step.index, None)
                assert job.scope.recorder is not None
                job.scope.recorder.add(step, endpoint)
            case m.Rewarded(reward=reward, error=error):
                job.scope.rewarded(reward, error)
            case _:
                self._answer(message, job.scope)

    def _answer(self, message: Any, scope: Scope) -> None:
        told: m.Told | None
        coming: Future[Reply] | None = None
        reply_number = 0
        try:
            match message:
                case m.AskAdmit():
                    scope.admit()
                    told = m.Told(message.number)
                case m.AskPredict(call=call):
                    assert scope.predict is not None
                    told = m.Told(message.number, call=scope.predict(call, scope.policy))
                case m.AskReply(call=call, reply_number=reply_number):
                    assert scope.responder is not None
                    assert scope.recorder is not None
                    coming = scope.responder.respond(call, scope.policy, scope.recorder.rollout_id)
                    told = m.Told(message.number, value=coming is not None)
                case _:
                    told = self._from_tape(message, scope.tools or ToolModes())
        except BaseException as error:  # noqa: BLE001 - told to the agent, whose call it was
            told = raised(message.number, error)
        if coming is not None:
            self._asked[reply_number] = coming
        if told is not None:
            self._channel.send(told)
        if coming is not None:
            coming.add_done_callback(partial(self._replied, reply_number))

    def _replied(self, number: int, done: Future[Reply]) -> None:
        if self._asked.pop(number, None) is None or done.cancelled():
            return
        error = done.exception()
        with suppress(OSError):
            self._channel.send(raised(number, error) if error is not None else m.Told(number, reply=done.result()))

    def _from_tape(self, ask: m.AskTape, tools: ToolModes) -> m.Told | None:
        tape, tool, arguments, owner = tools.tape, ask.tool, ask.arguments, (self._process.pid, *ask.owner)
        value: Any = None
        match ask.verb:
            case "has":
                value = (tool, arguments) in tape
            case "get":
                value = tape.get(tool, arguments)
            case "put":
                tape.put(tool, arguments, ask.value)
            case "claim":
                value = tape.claim(tool, arguments, owner) is not None
                if not value:
                    self._claims.append((tape, tool, arguments))
            case "wait":
                running = tape.running(tool, arguments)
                if running is not None:
                    running.add_done_callback(lambda _: self._tell(m.Told(ask.number)))
                    return None
            case "release":
                tape.release(tool, arguments)
                self._claims = [claim for claim in self._claims if claim[1:] != (tool, arguments)]
        return m.Told(ask.number, value=value)

    def _tell(self, told: m.Told) -> None:
        with suppress(OSError):
            self._channel.send(told)

    def _settle(self, ended: m.Ended) -> None:
        job, self._job = self._job, None
        if job is not None and not job.loop.is_closed():
            job.loop.call_soon_threadsafe(lambda: None if job.outcome.done() else job.outcome.set_result(ended))

    def _ending(self) -> str:
        """How it ended, in words."""
        self._has_ended.wait()
        status = self._process.returncode
        if status >= 0:
            return f"ended by itself, with exit status {status}"
        name = signal.Signals(-status).name
        hint = ". Was there too little memory?" if name == "SIGKILL" else ""
        return f"was ended by signal {name}{hint}"


def _unfinished(begun: m.Opened, rollout_id: str) -> Step:
    if begun.step is not None:
        return begun.step
    [dialect] = [dialect for dialect in dialects() if dialect.name == begun.dialect]
    call = Exchange(index=begun.index, agent=begun.agent, dialect=dialect, url=begun.url, headers={}, body=begun.body)
    step = call.to_step(rollout_id, f"{rollout_id}.{begun.index}")
    return msgspec.structs.replace(step, error=None)  # not the model failed: nobody waited for its answer


def _preparation(origin: Origin) -> dict[str, Any]:
    """What makes a fresh interpreter like this one; with the user's main program only where the agent is in it."""
    data = spawn.get_preparation_data("agentlightning-worker")
    left_out = {"authkey", "start_method"} | (
        set() if origin.needs_main else {"init_main_from_name", "init_main_from_path"}
    )
    return {key: value for key, value in data.items() if key not in left_out}
