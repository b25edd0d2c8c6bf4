"""The agent, wrapped: the same callable, which a Trainer can run and a policy can steer.

Called outside a Trainer with no policy, it is the user's agent and nothing more: its result passes through untouched.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from typing import Any, overload

from agentlightning.adapters import ADAPTERS
from agentlightning.adapters.base import Adapter
from agentlightning.adapters.module_tools import writing_tools
from agentlightning.data.resource import Policy
from agentlightning.errors import AgentError
from agentlightning.interception.scope import Predict, Scope, current_scope, entered
from agentlightning.interception.tools import ToolMode, parse_modes
from agentlightning.interception.transports import install


class WrappedAgent:
    """Call it as you called your agent. `use(policy)` steers it, `use(None)` gives the original back."""

    def __init__(
        self,
        adapter: Adapter,
        *,
        agent_id: str,
        algorithm: Any = None,
        reward: Any = None,
        tools: Mapping[str, ToolMode] | None = None,
    ) -> None:
        self.adapter = adapter
        self.agent_id = agent_id
        self.algorithm = algorithm
        self.reward = reward
        self.tool_modes = dict(tools or {})
        self.policy: Policy | None = None
        self._predict: Predict | None = None
        functools.update_wrapper(self, adapter.agent, updated=())

    def __repr__(self) -> str:
        steered = f", policy={self.policy.id}" if self.policy else ""
        return f"WrappedAgent({self.agent_id!r}, type={self.adapter.name!r}{steered})"

    @property
    def agent(self) -> Any:
        """The user's own object."""
        return self.adapter.agent

    def prepare(self) -> None:
        """Make its tools visible. Called before the first rollout, when the agent's module is surely complete.

        Raises AgentError when a tool with a mode is not there.
        """
        self.adapter.attach_tools(self.tool_modes)

    def writing_tools(self) -> list[str]:
        """Tools that, by their names and descriptions, seem to change something in the world."""
        return writing_tools(self.adapter.tools())

    def use(self, policy: Policy | None, predict: Predict | None = None) -> WrappedAgent:
        """Steer every call from now on by `policy`; None gives the original agent back. Returns itself."""
        self.policy = policy
        self._predict = predict
        return self

    def steered(self, policy: Policy, predict: Predict | None = None) -> WrappedAgent:
        """A second handle on the same agent, steered by `policy`; this one stays as it is."""
        other = WrappedAgent(
            self.adapter,
            agent_id=self.agent_id,
            algorithm=self.algorithm,
            reward=self.reward,
            tools=self.tool_modes,
        )
        return other.use(policy, predict)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.policy is None or self.policy.is_original or current_scope() is not None:
            return self.adapter.call(*args, **kwargs)
        scope = Scope(self.agent_id, policy=self.policy, predict=self._predict)
        with entered(scope):
            result = self.adapter.call(*args, **kwargs)
        return within(result, scope)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """So that a decorated method still receives its `self`."""
        return self if instance is None else functools.partial(self, instance)


def within(result: Any, scope: Scope) -> Any:
    """A coroutine or generator that runs inside `scope` whenever it runs; any other value as it is."""
    if inspect.iscoroutine(result):
        return _await_within(result, scope)
    if inspect.isgenerator(result):
        return _generate_within(result, scope)
    if inspect.isasyncgen(result):
        return _generate_async_within(result, scope)
    return result


async def _await_within(coroutine: Any, scope: Scope) -> Any:
    with entered(scope):
        return await coroutine


def _generate_within(generator: Generator[Any, Any, Any], scope: Scope) -> Generator[Any, Any, Any]:
    """The scope is entered for each step only: between them the consumer's own calls are not ours."""
    sent: Any = None
    try:
        while True:
            with entered(scope):
                try:
                    item = generator.send(sent)
                except StopIteration as stop:
                    return stop.value
            sent = yield item
    finally:
        with entered(scope):
            generator.close()


async def _generate_async_within(generator: Any, scope: Scope) -> AsyncIterator[Any]:
    try:
        while True:
            with entered(scope):
                try:
                    item = await generator.__anext__()
                except StopAsyncIteration:
                    return
            yield item
    finally:
        with entered(scope):
            await generator.aclose()


def wrap_agent(
    agent: Any,
    agent_type: str | None = None,
    algorithm: Any = None,
    *,
    name: str | None = None,
    reward: Any = None,
    tools: Mapping[str, Any] | None = None,
) -> WrappedAgent:
    """Wrap an agent that already runs; its code stays as it is.

    `agent_type` names the adapter ("function", "openai_sdk"); detected when not given. `algorithm` is a name, a list of
    names run in order, or an algorithm object. `tools` sets what tools may do while the agent is run many times:
    `{"send_email": "stub", "search": "record"}`. Raises AgentError saying what was found when it cannot be wrapped.
    """
    if isinstance(agent, WrappedAgent):
        raise AgentError(f"{agent!r} is wrapped already; wrap the original agent, or use this one.")
    adapter = find_adapter(agent, agent_type)
    modes = parse_modes(tools)
    install()
    return WrappedAgent(adapter, agent_id=name or adapter.label(), algorithm=algorithm, reward=reward, tools=modes)


def find_adapter(agent: Any, agent_type: str | None = None) -> Adapter:
    """The adapter that was named, or the first that recognises the object."""
    if agent_type is not None:
        kind: type[Adapter] = ADAPTERS.load(agent_type)
        if reason := kind.refusal(agent):
            raise AgentError(f"agent_type={agent_type!r} was asked for, but {reason}.")
        return kind(agent)
    for known in ADAPTERS.names():
        kind = ADAPTERS.load(known)
        if kind.recognises(agent):
            return find_adapter(agent, known)
    fallback: type[Adapter] = ADAPTERS.load("function")
    reason = fallback.refusal(agent) or f"a {type(agent).__name__} is none of the known kinds"
    raise AgentError(f"this agent cannot be wrapped: {reason}. Known types: {', '.join(ADAPTERS.names())}.")


@overload
def agent(function: Callable[..., Any], /) -> WrappedAgent: ...
@overload
def agent(**options: Any) -> Callable[[Callable[..., Any]], WrappedAgent]: ...
def agent(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """The decorator form of `wrap_agent`, for plain functions: sync, async, generators.

    @agentlightning.agent
    def answer(question: str) -> str: ...
    """
    if function is None:
        return lambda inner: wrap_agent(inner, **options)
    return wrap_agent(function, **options)
