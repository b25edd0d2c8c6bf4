"""Which rollout is this code part of? One ContextVar answers.

A call made outside any scope passes through untouched. A scope that was closed stays visible to the threads its
rollout left behind, so that their late calls are stopped instead of being paid for and lost.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Reward
from agentlightning.errors import AgentError, RolloutStopped
from agentlightning.interception.reporting import REWARD_URL, report_reward

if TYPE_CHECKING:
    from agentlightning.interception.handover import Handover, Passage
    from agentlightning.interception.recorder import Recorder
    from agentlightning.interception.tools import ToolModes

Predict = Callable[[Call, Policy], Call]


class Responder(Protocol):
    """Answers model calls in the provider's place: an engine that holds the agent's weights."""

    def respond(self, call: Call, policy: Policy, rollout_id: str) -> Future[Reply] | None:
        """The answer to a call, steered already; None: the call goes out as usual. Must not block."""
        ...


class Scope:
    """One rollout (or one call of an optimised agent) while it runs.

    `recorder` None means steer only. `admit` is asked before every send and may raise `RolloutStopped` (budget).
    `responder` may answer a call itself; such a call is never sent.
    `handover` takes programs in other processes along; `attempt` and `mode` ("train", "val") name the rollout to them.
    `host` is the scope that this one is a guest in, see `hosting`.
    `on_reward` hears of what the agent emits, as `rewarded` does.
    """

    def __init__(
        self,
        agent: str,
        *,
        policy: Policy | None = None,
        predict: Predict | None = None,
        recorder: Recorder | None = None,
        admit: Callable[[], None] | None = None,
        tools: ToolModes | None = None,
        responder: Responder | None = None,
        handover: Handover | None = None,
        attempt: int = 1,
        mode: str = "train",
        host: Scope | None = None,
        on_reward: Callable[[Reward | None, str | None], None] | None = None,
    ) -> None:
        self.agent = agent
        self.policy = policy or Policy()
        self.predict = predict
        self.recorder = recorder
        self.tools = tools
        self.responder = responder
        self.handover = handover
        self.passage: Passage | None = None
        self.attempt = attempt
        self.mode = mode
        self.host = host
        self.rewards: list[Reward] = []
        self.reward_error: str | None = None
        """Why what was emitted cannot be used."""
        self.missed: dict[str, int] = {}
        self.conversations: dict[str, list[Message]] = {}
        """Answers of the responder that later calls may name instead of repeating their messages."""
        self.num_late_calls = 0
        self._admit = admit
        self._on_reward = on_reward
        self._is_closed = False
        self._lock = threading.Lock()

    @property
    def line(self) -> tuple[Scope, ...]:
        """Whose policies steer a call, one after the other: this scope's, its host's, and so on."""
        return (self,) if self.host is None else (self, *self.host.line)

    @property
    def outermost(self) -> Scope:
        """The scope of the whole rollout: where rewards go, and whose policy the rollout is run with."""
        return self if self.host is None else self.host.outermost

    @property
    def is_closed(self) -> bool:
        return self.outermost._is_closed

    @property
    def is_steering(self) -> bool:
        """May a call leave otherwise than the agent made it?"""
        for each in self.line:
            if each.predict is not None or each.responder is not None or not each.policy.is_original:
                return True
        return False

    def hosting(self, agent: str, policy: Policy, predict: Predict | None, responder: Responder | None) -> Scope:
        """This rollout, for an agent called inside it that has a policy of its own: steered by that one first.

        A policy that steers here already is not applied twice, so an agent may call itself.
        """
        if any(each.policy.id == policy.id and each.responder is responder for each in self.line):
            return self
        return Scope(
            agent,
            policy=policy,
            predict=predict,
            responder=responder,
            recorder=self.recorder,
            admit=self.admit,
            tools=self.tools,
            handover=self.handover,
            attempt=self.attempt,
            mode=self.mode,
            host=self,
        )

    def admit(self) -> None:
        """Let one more call through, or raise RolloutStopped."""
        if self._is_closed:
            with self._lock:
                self.num_late_calls += 1
            raise RolloutStopped(
                f"the rollout of agent {self.agent!r} has ended, but a thread or task it left behind made another "
                "call. The call was not made. Join threads and await tasks before the agent returns."
            )
        if self._admit is not None:
            self._admit()

    def rewarded(self, reward: Reward | None, error: str | None = None) -> None:
        """Keep a reward that was emitted, or why what was emitted is none."""
        if reward is not None:
            self.rewards.append(reward)
        self.reward_error = error or self.reward_error
        if self._on_reward is not None:
            self._on_reward(reward, error)

    def close(self) -> None:
        """End the scope: whatever still runs under it may not call a model any more."""
        self._is_closed = True
        if self.passage is not None:
            self.passage.close()


_SCOPE: ContextVar[Scope | None] = ContextVar("agentlightning_scope", default=None)
_AGENT: ContextVar[str | None] = ContextVar("agentlightning_agent", default=None)
_FINDERS: list[Callable[[], str | None]] = []


def current_scope() -> Scope | None:
    """The scope this code runs in, or None."""
    return _SCOPE.get()


def current_speaker() -> str | None:
    """The member of a multi-agent system that is speaking: as its adapter said, else as the framework's own state says.

    None: nobody in particular, so the scope's own agent.
    """
    if (named := _AGENT.get()) is not None:
        return named
    for find in _FINDERS:
        if found := find():
            return found
    return None


def current_agent() -> str | None:
    """The agent that is speaking: a member of the system, else the scope's own agent."""
    scope = _SCOPE.get()
    return current_speaker() or (scope.agent if scope else None)


def ask_for_speaker(find: Callable[[], str | None]) -> None:
    """Ask `find`, too, who is speaking, where no adapter said so. It is called in scopes only and must not raise."""
    if find not in _FINDERS:
        _FINDERS.append(find)


def set_speaker(agent: str | None) -> None:
    """From here on the named member speaks, in this task or thread; for frameworks that tell only when one begins."""
    _AGENT.set(agent)


class entered:  # every model call passes here: a generator with `contextmanager` would take twice as long
    """`with entered(scope):` runs a block inside the scope (None: outside any), spoken by `agent`.

    Restores by setting the previous value, not by token: a generator closed from another context must not raise.
    """

    __slots__ = ("_before", "_inside")

    def __init__(self, scope: Scope | None, agent: str | None = None) -> None:
        self._inside = scope, agent

    def __enter__(self) -> None:
        self._before = _SCOPE.get(), _AGENT.get()
        self._set(self._inside)

    def __exit__(self, *_raised: object) -> None:
        self._set(self._before)

    def _set(self, values: tuple[Scope | None, str | None]) -> None:
        _SCOPE.set(values[0])
        _AGENT.set(values[1])


@contextmanager
def speaking(agent: str) -> Generator[None]:
    """Calls in this block are made by the named member of a multi-agent system."""
    previous = _AGENT.get()
    _AGENT.set(agent)
    try:
        yield
    finally:
        _AGENT.set(previous)


def run_in(scope: Scope | None, agent: str | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function inside a scope captured elsewhere; how scopes travel into threads."""
    with entered(scope, agent):
        return function(*args, **kwargs)


def emit_reward(
    value: float, reason: str | None = None, *, name: str = "reward", metric: bool = False, step: bool = False
) -> None:
    """Say, from inside an agent, how well this run went. Outside a rollout nothing happens.

    The last non-metric value of a name wins. `step`: this is about the speaking agent's last answer only; such rewards
    never judge the run, and are added up where learning gives credit to single answers. What is no finite number leaves
    the rollout without a reward and stands in its error; it is not raised here, where it would look like a failure of
    the agent. A program that an agent of a rollout started tells that rollout; AgentError when it cannot be reached.
    """
    scope = _SCOPE.get()
    if scope is None and (url := os.environ.get(REWARD_URL)):
        if step:
            raise AgentError("emit_reward(…, step=True) works in the agent's own process, not in one that it started.")
        report_reward(url, value, reason, name=name, metric=metric)
    if scope is None or scope.is_closed:
        return
    scope = scope.outermost
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        scope.rewarded(None, f"emit_reward was given {value!r:.80}, which is no finite number")
    else:
        about = _last_answer(scope) if step else None
        scope.rewarded(Reward(value=number, reason=reason, name=name, source="emitted", is_metric=metric, step=about))


def _last_answer(scope: Scope) -> int:
    """The index of the speaking agent's last model call, else of anybody's; -1 before the first."""
    calls = scope.recorder.exchanges() if scope.recorder else []
    own = [call for call in calls if call.agent == current_agent()]
    return (own or calls)[-1].index if calls else -1
