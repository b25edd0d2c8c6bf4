"""The agent, wrapped: the same callable, which a Trainer can run and a policy can steer.

Called outside a Trainer with no policy, it is the user's agent and nothing more: its result passes through untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial, update_wrapper
from typing import Any, NamedTuple, overload

from agentlightning.adapters import ADAPTERS, COLLECTORS, watching
from agentlightning.adapters.base import Adapter, ObjectAdapter, looks_like_factory, made_by
from agentlightning.adapters.module_tools import writing_tools
from agentlightning.adapters.within import within
from agentlightning.data.resource import Policy
from agentlightning.errors import AgentError
from agentlightning.interception.fingerprint import take_fingerprints
from agentlightning.interception.scope import Predict, Responder, Scope, current_scope, current_speaker, entered
from agentlightning.interception.tools import ToolMode, parse_modes
from agentlightning.interception.transports import install

_LAST_ROLLOUT: ContextVar[str | None] = ContextVar("agentlightning_last_rollout", default=None)


class _Steering(NamedTuple):
    """What `use` was given."""

    policy: Policy
    predict: Predict | None = None
    responder: Responder | None = None


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
        self.set_up: Callable[..., Any] | None = None
        self.tear_down: Callable[..., Any] | None = None
        self._steering: _Steering | None = None
        self.collector: Any = None
        """Keeps calls made outside a Trainer as rollouts of split `live`; see `trainer.live`."""
        self.source: dict[str, str] = {}
        """Of an agent that was found by its path: the words of the configuration's `agent`, and its `base_dir`."""
        self.__agentlightning_agent__ = agent_id
        if isinstance(adapter, ObjectAdapter) and watching.missing(adapter.name):
            take_fingerprints(agent_id, {each.name: each.instructions for each in adapter.structure().members})
        update_wrapper(self, adapter.agent, updated=())

    def __repr__(self) -> str:
        steered = f", policy={self.policy.id}" if self.policy else ""
        return f"WrappedAgent({self.agent_id!r}, type={self.adapter.name!r}{steered})"

    @property
    def policy(self) -> Policy | None:
        """What steers it, as set by `use`."""
        return self._steering.policy if self._steering is not None else None

    @property
    def agent(self) -> Any:
        """The user's own object."""
        return self.adapter.agent

    def prepare(self) -> None:
        """Make its tools visible. Called before the first rollout, when the agent's module is surely complete.

        Raises AgentError when a tool with a mode is not there.
        """
        self.adapter.attach_tools(self.tool_modes)

    def surround(self, **functions: Callable[..., Any] | None) -> None:
        """Call `set_up` before, `tear_down` after every rollout. AgentError for what is no function."""
        for name, function in functions.items():
            if function is not None and not callable(function):
                found = type(function).__name__
                raise AgentError(f"{name} must be a function (of the task, or of nothing), not a {found}.")
            setattr(self, name, function or getattr(self, name))

    def writing_tools(self) -> list[str]:
        """Tools that, by their names and descriptions, seem to change something in the world."""
        return writing_tools(self.adapter.tools())

    def names(self) -> list[str]:
        """Whom a policy can steer, as far as it is known before a run: the agent as a whole, then its members."""
        return list(dict.fromkeys([self.agent_id, *self.adapter.members()]))

    def use(
        self, policy: Policy | None, predict: Predict | None = None, responder: Responder | None = None
    ) -> WrappedAgent:
        """Steer every call from now on by `policy`; None gives the original agent back. Returns itself.

        `responder` answers calls in the model's place, for policies that name weights.
        """
        # one assignment: a call that begins in another thread meets the old three or the new three
        self._steering = _Steering(policy, predict, responder) if policy is not None else None
        return self

    def steered(
        self, policy: Policy, predict: Predict | None = None, responder: Responder | None = None
    ) -> WrappedAgent:
        """A second handle on the same agent, steered by `policy`; this one stays as it is."""
        other = WrappedAgent(
            self.adapter,
            agent_id=self.agent_id,
            algorithm=self.algorithm,
            reward=self.reward,
            tools=self.tool_modes,
        )
        other.set_up, other.tear_down = self.set_up, self.tear_down
        other.collector, other.source = self.collector, self.source
        return other.use(policy, predict, responder)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self.adapter.call, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """What the agent itself has; the methods it is run by (`invoke`, `run`, `kickoff`, …) run it steered."""
        adapter: Adapter | None = self.__dict__.get("adapter")
        if adapter is None or name.startswith("__"):
            raise AttributeError(name)
        value = getattr(adapter.surface, name)
        return partial(self._run, value) if name in adapter.entry_points else value

    def _run(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Steered by the policy; inside another agent's run, recorded and steered further by that one, as itself."""
        steering, speaker = self._steering, None
        if (outer := current_scope()) is not None:
            scope = outer if steering is None else outer.hosting(self.agent_id, *steering)
            speaker = self._speaker_inside() if scope is outer else None
        elif self.collector is not None:
            return self._collected(steering, function, *args, **kwargs)
        elif steering is None or (steering.policy.is_original and steering.responder is None):
            return function(*args, **kwargs)
        else:
            scope = Scope(self.agent_id, **steering._asdict())
        with entered(scope, speaker):
            result = function(*args, **kwargs)
        return within(result, scope, speaker)

    def _collected(self, steering: _Steering | None, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run it and keep what happens; the result, and whatever is raised, are the agent's own."""
        steered_by = (steering or _Steering(Policy()))._asdict()
        rollout = self.collector.begin(self.agent_id, _input_of(args, kwargs), **steered_by)
        _LAST_ROLLOUT.set(rollout.id)
        try:
            with entered(rollout.scope, None):
                result = function(*args, **kwargs)
        except BaseException as error:
            rollout.end(error=error)
            raise
        return within(result, rollout.scope, on_end=rollout.end)

    def _speaker_inside(self) -> str | None:
        """A function that is an agent of its own speaks as itself; a framework's members have their own names."""
        return current_speaker() if isinstance(self.adapter, ObjectAdapter) else self.agent_id

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """So that a decorated method still receives its `self`."""
        return self if instance is None else partial(self, instance)


def _input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the agent was asked: its only argument, else all of them by name."""
    if len(args) + len(kwargs) == 1:
        return args[0] if args else next(iter(kwargs.values()))
    return {**{f"argument {i}": value for i, value in enumerate(args, start=1)}, **kwargs}


def last_rollout_id() -> str | None:
    """The id of the last live rollout begun in this task or thread: what feedback is given on."""
    return _LAST_ROLLOUT.get()


def wrap_agent(
    agent: Any,
    agent_type: str | None = None,
    algorithm: Any = None,
    *,
    name: str | None = None,
    reward: Any = None,
    tools: Mapping[str, Any] | None = None,
    set_up: Callable[..., Any] | None = None,
    tear_down: Callable[..., Any] | None = None,
    store: Any = None,
) -> WrappedAgent:
    """Wrap an agent that already runs; its code stays as it is.

    `agent_type` names the adapter ("function", "openai_sdk", "langgraph", …); detected when not given. A framework's
    object may also be given as a function without parameters that makes one: each run then gets its own. `algorithm` is
    a name, a list of names run in order, or an algorithm object. `tools` sets what tools may do while the agent is run
    many times: `{"send_email": "stub", "search": "record"}`. In a run, `set_up` is called before every rollout and
    `tear_down` after it, with the task if they take an argument; both may be coroutine functions. With a `store` (an
    address, or an open store), calls made outside a Trainer are kept there as rollouts of split `live`, for `feedback`
    and later training. Raises AgentError saying what was found when it cannot be wrapped.
    """
    if isinstance(agent, WrappedAgent):
        raise AgentError(f"{agent!r} is wrapped already; wrap the original agent, or use this one.")
    watching.install()  # first: an adapter asks what its framework lacks
    adapter = find_adapter(agent, agent_type)
    modes = parse_modes(tools)
    install()
    wrapped = WrappedAgent(adapter, agent_id=name or adapter.label(), algorithm=algorithm, reward=reward, tools=modes)
    wrapped.surround(set_up=set_up, tear_down=tear_down)
    if store is not None:
        wrapped.collector = COLLECTORS.load("store")(store)
    return wrapped


def find_adapter(agent: Any, agent_type: str | None = None) -> Adapter:
    """The adapter that was named, or the first that recognises the object."""
    if agent_type is not None:
        kind: type[Adapter] = ADAPTERS.load(agent_type)
        if reason := kind.refusal(agent):
            raise AgentError(f"agent_type={agent_type!r} was asked for, but {reason}.")
        return kind(agent)
    made = framework_objects({"made": made_by(agent)}) if looks_like_factory(agent) else {}
    known = adapter_name(made["made"] if made else agent)
    if known is not None and ADAPTERS.load(known).refusal(agent) is None:
        return ADAPTERS.load(known)(agent)
    fallback: type[Adapter] = ADAPTERS.load("function")
    reason = fallback.refusal(agent) or f"a {type(agent).__name__} is none of the known kinds"
    raise AgentError(f"this agent cannot be wrapped: {reason}. Known types: {', '.join(ADAPTERS.names())}.")


def adapter_name(agent: Any) -> str | None:
    """The first adapter that recognises the object."""
    return next((name for name in ADAPTERS.names() if ADAPTERS.load(name).recognises(agent)), None)


def framework_objects(named: Mapping[str, Any], kind: str | None = None) -> dict[str, Any]:
    """Of some named objects, those a framework's adapter (`kind`: this one) can run, without the parts of others.

    What is seldom an agent by itself (a chat model) comes only where there is nothing else.
    """
    kinds = [ADAPTERS.load(name) for name in ([kind] if kind else ADAPTERS.names())]
    found: dict[str, ObjectAdapter] = {}
    for name, value in named.items():
        mine = next((each for each in kinds if issubclass(each, ObjectAdapter) and each.is_mine(value)), None)
        if mine is not None and not name.startswith("_") and all(value is not other.agent for other in found.values()):
            found[name] = mine(value)
    parts = {id(part) for adapter in found.values() for part in adapter.parts()}
    whole = {name: adapter for name, adapter in found.items() if id(adapter.agent) not in parts}
    telling = {name: adapter for name, adapter in whole.items() if not adapter.is_seldom_alone(adapter.agent)}
    return {name: adapter.agent for name, adapter in (telling or whole).items()}


def is_seldom_alone(thing: Any) -> bool:
    """A framework's object that could be run, but is hardly the agent where there is anything else that could be."""
    kinds = [ADAPTERS.load(name) for name in ADAPTERS.names()]
    return any(issubclass(kind, ObjectAdapter) and kind.is_seldom_alone(thing) for kind in kinds)


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
