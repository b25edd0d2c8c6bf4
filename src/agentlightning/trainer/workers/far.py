"""The run's side of a scope, seen from a worker: budget, engine, algorithm and tape are asked through the channel."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Literal

from agentlightning import errors
from agentlightning.data.call import Call, Reply
from agentlightning.data.resource import Policy
from agentlightning.interception.recorder import plain
from agentlightning.interception.tape import Owner, Tape, caller
from agentlightning.trainer.workers import messages as m

_KINDS: Mapping[str, type[BaseException]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BaseException)
}


class FarRun:
    """Asks, and waits for what is told. Its methods are called by the agent's threads, `told` by the reading one."""

    def __init__(self, channel: m.Channel) -> None:
        self._channel = channel
        self._waiting: dict[int, Future[m.Told]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def told(self, told: m.Told) -> None:
        """An answer came in."""
        with self._lock:
            future = self._waiting.pop(told.number, None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if told.raised:
            future.set_exception(_error(told))
        else:
            future.set_result(told)

    def admit(self) -> None:
        """As `Scope.admit` asks; raises what the budget raises."""
        number, future = self._expected()
        self._channel.send(m.AskAdmit(number))
        future.result()

    def predict(self, call: Call, policy: Policy) -> Call:
        """The algorithm's own `predict`; the run knows the policy."""
        number, future = self._expected()
        self._channel.send(m.AskPredict(number, call))
        changed = future.result().call
        assert changed is not None
        return changed

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply] | None:
        """As `Responder.respond`: whether the run answers is known at once, the answer itself later."""
        number, future = self._expected()
        reply_number, coming = self._expected()
        self._channel.send(m.AskReply(number, reply_number, call))
        if not future.result().value:
            with self._lock:
                del self._waiting[reply_number]
            return None
        reply: Future[Reply] = Future()
        coming.add_done_callback(lambda done: _hand_on(done, reply))
        reply.add_done_callback(lambda done: self._no_longer(reply_number) if done.cancelled() else None)
        return reply

    def tape(
        self,
        verb: Literal["has", "get", "put", "claim", "wait", "release"],
        tool: str,
        arguments: Any,
        value: Any = None,
    ) -> Future[m.Told]:
        """What the run's tape says."""
        number, future = self._expected()
        self._channel.send(m.AskTape(number, verb, tool, plain(arguments), plain(value), caller()))
        return future

    def _expected(self) -> tuple[int, Future[m.Told]]:
        number, future = next(self._numbers), Future[m.Told]()
        with self._lock:
            self._waiting[number] = future
        return number, future

    def _no_longer(self, number: int) -> None:
        with self._lock:
            self._waiting.pop(number, None)
        self._channel.send(m.NoLonger(number))


class FarTape(Tape):
    """The run's tape, so that a tool recorded in one worker is answered from the tape in all."""

    def __init__(self, run: FarRun) -> None:
        super().__init__()
        self._run = run

    def __contains__(self, key: tuple[str, Any]) -> bool:
        return bool(self._run.tape("has", *key).result().value)

    def get(self, name: str, arguments: Any) -> Any:
        return self._run.tape("get", name, arguments).result().value

    def put(self, name: str, arguments: Any, result: Any) -> None:
        self._run.tape("put", name, arguments, result).result()

    def claim(self, name: str, arguments: Any, owner: Owner | None = None) -> Future[None] | None:
        if not self._run.tape("claim", name, arguments).result().value:
            return None
        over: Future[None] = Future()
        self._run.tape("wait", name, arguments).add_done_callback(lambda _: over.set_result(None))
        return over

    def release(self, name: str, arguments: Any) -> None:
        self._run.tape("release", name, arguments).result()


def raised(number: int, error: BaseException) -> m.Told:
    """An error, to be told to a worker: one of ours keeps its kind."""
    known = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS), "ModelError")
    return m.Told(number, raised=known, why=str(error) or type(error).__name__)


def _error(told: m.Told) -> BaseException:
    return _KINDS.get(told.raised, errors.ModelError)(told.why)


def _hand_on(done: Future[m.Told], reply: Future[Reply]) -> None:
    if done.cancelled() or not reply.set_running_or_notify_cancel():
        return
    error = done.exception()
    if error is not None:
        reply.set_exception(error)
    else:
        found = done.result().reply
        assert found is not None
        reply.set_result(found)
