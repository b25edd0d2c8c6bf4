"""What a reward function may be, and the one place where what it returned becomes a Reward.

A function that fails says nothing about the agent: that is an error of the rollout's judging, never a zero.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload, runtime_checkable

import msgspec

from agentlightning.data.call import Message, Reply
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.engine.base import Engine
from agentlightning.errors import BudgetExhausted, DataError, ModelError

if TYPE_CHECKING:
    from agentlightning.rewards.opinions import Opinions

RewardValue = float | tuple[float, str | None] | Reward | None
"""A number, a number and why, a Reward, or None for "cannot judge this one"."""

RewardFunction = Callable[[Task, Trajectory], RewardValue | Awaitable[RewardValue]]


class Services(msgspec.Struct, frozen=True):
    """What a run can offer a reward beyond the task and the trajectory."""

    complete: Callable[[list[Message]], Awaitable[Reply]] | None = None
    """Asks the judge model, on the run's budget and record. None where there is no model to ask."""
    judge: str = ""
    """Which model that is, in words."""
    feedback: Callable[[str], Awaitable[list[dict[str, Any]]]] | None = None
    """The bodies of the `feedback` records about a rollout. None where there is no store."""
    engine: Engine | None = None
    """What holds the weights that are trained; None where none are."""
    opinions: Callable[[], Awaitable[Opinions]] | None = None
    """What people said of this agent's rollouts, whichever run they are of."""
    note: Callable[[str], None] | None = None
    """Tells the user something of the run."""
    keep: Callable[[str, str, dict[str, Any]], Awaitable[None]] | None = None
    """Puts on record, under a name, a text and what it is about."""
    kept: Callable[[str], Awaitable[dict[str, Any] | None]] | None = None
    """What this run kept last under a name; None where it kept nothing."""
    policies: Callable[[], Awaitable[list[str]]] | None = None
    """Ids of the policies that this run has rolled out so far, also before an interruption."""
    folder: Path | None = None
    """Where the run's files lie; the same one after an interruption."""


@runtime_checkable
class Unbound(Protocol):
    """A reward that needs a model or people's feedback: the run binds it to its services before anything is judged."""

    def bind(self, services: Services) -> RewardFunction: ...


@runtime_checkable
class Prepared(Protocol):
    """A bound reward that must learn before it judges; the run waits for it, once."""

    async def prepare(self) -> None: ...


def bound(function: Any, services: Services) -> RewardFunction:
    """The reward function itself, or what an Unbound one becomes in a run."""
    return function.bind(services) if isinstance(function, Unbound) else function


_MARK = "agentlightning_reward"
_F = TypeVar("_F", bound=Callable[..., Any])


class RewardMark(msgspec.Struct, frozen=True):
    """What `@reward` says about a function."""

    name: str
    is_metric: bool = False
    health: Callable[[], str] | None = None
    """What the run should say of the ground this reward stands on here, such as the walls of a sandbox."""
    is_quick: bool = False


@overload
def reward(function: _F, /) -> _F: ...
@overload
def reward(
    *, name: str | None = None, metric: bool = False, health: Callable[[], str] | None = None, quick: bool = False
) -> Callable[[_F], _F]: ...
def reward(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    metric: bool = False,
    health: Callable[[], str] | None = None,
    quick: bool = False,
) -> Any:
    """Mark a function of `(task, trajectory)` as a reward; with `metric=True` it is recorded but never maximised.

    `health` gives a line that runs print with the reward. `quick`: it takes less time than handing it to a thread would
    (it compares short texts, say, and waits for nothing). The function itself is returned unchanged and can still be
    called by hand.
    """
    mark = functools.partial(_mark, name=name, metric=metric, health=health, quick=quick)
    return mark if function is None else mark(function)


def reward_mark(function: Callable[..., Any]) -> RewardMark:
    """The mark of a reward function; an unmarked one is a reward by its own name."""
    inner = function.func if isinstance(function, functools.partial) else function
    mark = getattr(inner, _MARK, None)
    return mark if isinstance(mark, RewardMark) else RewardMark(_name_of(function))


async def evaluate_reward(function: RewardFunction, task: Task, trajectory: Trajectory) -> Reward | None:
    """What the function thinks of a rollout: a finite Reward with the function's name, or None when it cannot judge.

    Synchronous functions run in a worker thread (but for quick ones), so a slow one holds up nobody. Raises DataError,
    naming function and rollout, when the function raises or returns something that is no reward; a judge that is down
    (ModelError) and a spent budget pass as they are.
    """
    mark = reward_mark(function)
    where = f"reward {mark.name!r} on rollout {trajectory.id} (task {task.id})"
    try:
        if inspect.iscoroutinefunction(function):
            given: Any = await function(task, trajectory)
        else:
            call = functools.partial(_call, function, task, trajectory)
            given = call() if mark.is_quick else await asyncio.to_thread(call)
            given = await given if inspect.isawaitable(given) else given
    except (ModelError, BudgetExhausted):
        raise
    except Exception as error:
        remedy = "Fix the function, or return None for what it cannot judge."
        raise DataError(f"{where} raised {type(error).__name__}: {error}\n    {remedy}") from error
    return None if given is None else _to_reward(given, mark, where)


def _call(function: RewardFunction, task: Task, trajectory: Trajectory) -> Any:
    try:
        return function(task, trajectory)
    except StopIteration as error:  # which a future cannot carry: whoever awaits it would wait for ever
        raise RuntimeError("the function ran out of an iterator (StopIteration)") from error


def _mark(function: Any, *, name: str | None, metric: bool, health: Callable[[], str] | None, quick: bool) -> Any:
    if not callable(function):
        raise DataError(f"@reward marks a function of (task, trajectory); this is {function!r:.80}.")
    setattr(function, _MARK, RewardMark(name or _name_of(function), metric, health, quick))
    return function


def _name_of(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    given = getattr(inner, "name", None)
    return getattr(inner, "__name__", None) or (given if isinstance(given, str) else type(inner).__name__)


def _to_reward(given: Any, mark: RewardMark, where: str) -> Reward:
    if isinstance(given, Reward):
        name = mark.name if given.name == "reward" else given.name
        number = _finite(given.value, where)
        return msgspec.structs.replace(given, value=number, name=name, is_metric=given.is_metric or mark.is_metric)
    reason = None
    if isinstance(given, tuple) and len(given) == 2 and (given[1] is None or isinstance(given[1], str)):
        given, reason = given
    return Reward(value=_finite(given, where), reason=reason, name=mark.name, is_metric=mark.is_metric)


def _finite(given: Any, where: str) -> float:
    """A float; numpy and torch scalars count as numbers, text does not."""
    if not isinstance(given, str | bytes) and hasattr(given, "__float__"):
        try:
            number = float(given)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise _not_a_reward(given, where) from error
        if math.isfinite(number):
            return number
    raise _not_a_reward(given, where)


def _not_a_reward(given: Any, where: str) -> DataError:
    return DataError(
        f"{where} returned {given!r:.120}.\n"
        "    Return a finite number, (number, 'reason'), a Reward, or None for what it cannot judge."
    )
