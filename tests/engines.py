"""A small engine that really answers: its tokens are bytes, its model is uniform, so ids and logprobs can be checked.

with ByteEngine(SAID) as engine:
    engine.sample(call).result()     # the reply, with the prompt's and the answer's ids
    engine.fail(ContextTooLong("…")) # the next call
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from agentlightning.data.call import Call, Reply, Usage, message_text
from agentlightning.data.resource import Policy

LOGPROB = -math.log(256)
MODEL = "byte-model"


class ByteEngine:
    """Answers on a thread of its own, in the order of asking. `hold` makes it wait until `release`."""

    model = MODEL
    max_context_tokens = 100_000

    def __init__(self, answer: Reply | str | Callable[[Call], Reply | str] = "ok") -> None:
        self.calls: list[Call] = []
        self.asked: list[tuple[str, str]] = []
        """(weights, rollout id) of every call."""
        self.futures: list[Future[Reply]] = []
        self.forgotten: list[str] = []
        self._answer = answer
        self._failures: deque[BaseException] = deque()
        self._gate = threading.Event()
        self._gate.set()
        self._executor = ThreadPoolExecutor(1)

    def __enter__(self) -> ByteEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._executor.shutdown()

    async def close(self) -> None:
        self.__exit__()

    def fail(self, error: BaseException) -> None:
        self._failures.append(error)

    def hold(self) -> None:
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def forget(self, rollout_id: str) -> None:
        self.forgotten.append(rollout_id)

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        self.calls.append(call)
        self.asked.append((weights, rollout_id))
        self.futures.append(future := self._executor.submit(self._sample, call))
        return future

    def _sample(self, call: Call) -> Reply:
        self._gate.wait(10)
        if self._failures:
            raise self._failures.popleft()
        given = self._answer(call) if callable(self._answer) else self._answer
        reply = given if isinstance(given, Reply) else Reply({"role": "assistant", "content": given}, "stop")
        prompt, completion = tokens_of_call(call), tokens_of(reply)
        return msgspec.structs.replace(
            reply,
            model=self.model,
            usage=Usage(len(prompt), len(completion)),
            prompt_ids=prompt,
            completion_ids=completion,
            logprobs=[LOGPROB] * len(completion),
            alternatives=[reply.message] * (int(call.params.get("n") or 1) - 1),
        )


class ServedEngine(ByteEngine):
    """As a policy's `engine` names one: made of a model's name, it finds versions of weights in their folders."""

    def __init__(self, model: str) -> None:
        super().__init__(
            lambda call: f"{model} with {self.asked[-1][0] or 'no weights'}: {message_text(call.messages[0])}"
        )

    async def load(self, folder: Path) -> str:
        return folder.name


class Answering:
    """The responder of an engine: answers the named agents (none named: all) with the policy's weights."""

    def __init__(self, engine: ByteEngine, *agents: str) -> None:
        self._engine, self._agents = engine, agents

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply] | None:
        if self._agents and call.agent not in self._agents:
            return None
        return self._engine.sample(call, weights=policy.weights.get(call.agent, ""), rollout_id=rollout_id)


def tokens_of_call(call: Call) -> list[int]:
    """The prompt's ids: its messages' bytes, a line each."""
    return list("\n".join(f"{m.get('role')}: {message_text(m)}" for m in call.messages).encode())


def tokens_of(reply: Reply) -> list[int]:
    """The answer's ids: the bytes of its message."""
    return list(msgspec.json.encode(reply.message))
