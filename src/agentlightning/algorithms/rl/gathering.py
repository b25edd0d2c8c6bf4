"""Gathering whole groups of rollouts, ahead of learning as far as the staleness bound allows.

With a bound of S, groups are begun for this iteration and the S after it, so agents keep working while weights are
learned. A version of weights never changes, so a rollout that began under one ends under it, whatever was learned
meanwhile: nothing is paused or drained. Whole groups are consumed, each within S updates of its weights.

The written rule for what goes wrong:

* no reward (the provider failed, the judge gave none): the rollout is left out, and counted;
* the agent failed or ran out of time: it has the reward that failure was judged with, and is learned from like others;
* fewer than two rollouts of a group are left: nothing to compare, the group is left out, and counted;
* a group still running when its weights are S updates old is not waited for: it is left out, and counted (its rollouts
  stay on record). This favours tasks that are quick, so the count is shown;
* the budget is spent: what is in flight is dropped, and learning ends with the best so far.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from agentlightning.algorithms.base import Session
from agentlightning.algorithms.rl.advantages import mean
from agentlightning.algorithms.rl.config import RLConfig
from agentlightning.algorithms.rl.cooperation import without_learning
from agentlightning.algorithms.rl.stream import TaskStream, Visit
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Group


class Ticket(msgspec.Struct, frozen=True):
    """A group that was asked for."""

    number: int
    task_id: str
    draw: int
    born: int
    """Updates made when it was asked for."""
    weights: dict[str, str]
    """Agent → version that samples it."""


class Gathered(msgspec.Struct, frozen=True):
    """A group that is there."""

    ticket: Ticket
    group: Group
    counterfactuals: dict[str, float]
    """Agent → the team's mean reward without what this agent has learned; only where that was asked for."""


class Gathering:
    """Asks a session for groups. `advance` tells it the weights after each update."""

    def __init__(self, session: Session, config: RLConfig, stream: TaskStream, *, num_iterations: int) -> None:
        self.num_too_old = 0
        """Groups not waited for."""
        self.num_updates = 0
        self.policy = session.policy
        self._session = session
        self._config = config
        self._stream = stream
        self._num_wanted = num_iterations * config.batch_size
        self._num_taken = 0
        self._next_number = 0
        self._tickets: dict[int, Ticket] = {}
        self._running: dict[int, asyncio.Task[Gathered]] = {}
        self._given_up: list[asyncio.Task[Gathered]] = []

    @property
    def waiting(self) -> list[Ticket]:
        """Asked for and not consumed, oldest first."""
        return [self._tickets[number] for number in sorted(self._running)]

    def advance(self, policy: Policy, num_updates: int) -> None:
        self.policy, self.num_updates = policy, num_updates

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `to_state` was; what was in flight is asked for again, under the weights it began with."""
        self._num_taken, self._next_number = state["taken"], state["next"]
        self._num_wanted = state["wanted"]
        self.num_too_old = state["too_old"]
        for ticket in msgspec.convert(state["waiting"], list[Ticket]):
            self._begin(ticket)

    def to_state(self) -> dict[str, Any]:
        waiting = msgspec.to_builtins(self.waiting)
        counts = {"wanted": self._num_wanted, "taken": self._num_taken, "too_old": self.num_too_old}
        return {**counts, "next": self._next_number, "waiting": waiting}

    async def take(self, num: int, *, is_extra: bool = False) -> list[Gathered]:
        """The next `num` groups, in the order they were asked for. `is_extra`: beyond the iterations' own."""
        self._num_wanted += num if is_extra else 0
        self._drop_too_old()
        ahead = self._config.max_staleness * self._config.batch_size
        self._fill(num + ahead)
        taken: list[Gathered] = []
        while len(taken) < num:
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            done = [number for number in sorted(self._running) if self._running[number].done()]
            taken += [self._running.pop(number).result() for number in done[: num - len(taken)]]
        self._num_taken += num
        self._fill(ahead)
        return sorted(taken, key=lambda gathered: gathered.ticket.number)

    async def close(self) -> None:
        """Stop waiting for what is in flight."""
        running = [*self._running.values(), *self._given_up]
        self._running.clear()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _fill(self, num: int) -> None:
        """Ask for groups until `num` are under way, and no more than will be consumed."""
        while len(self._running) < min(num, self._num_wanted - self._num_taken):
            visit = self._stream.next()
            self._begin(Ticket(self._next_number, *_named(visit), self.num_updates, dict(self.policy.weights)))
            self._next_number += 1

    def _begin(self, ticket: Ticket) -> None:
        self._tickets[ticket.number] = ticket
        self._running[ticket.number] = asyncio.create_task(self._gather(ticket))

    def _drop_too_old(self) -> None:
        for ticket in self.waiting:
            if self.num_updates - ticket.born > self._config.max_staleness:
                self._given_up.append(self._running.pop(ticket.number))
                self._given_up[-1].cancel()
                self.num_too_old += 1

    async def _gather(self, ticket: Ticket) -> Gathered:
        policy = self._sampling(ticket)
        others = self._without_learning(policy)
        task = [self._stream.tasks[ticket.task_id]]
        asked = [self._session.rollout(task, policy=policy, n=self._config.group_size, draw=ticket.draw)]
        asked += [
            self._session.rollout(task, policy=other, n=self._config.num_counterfactuals, draw=ticket.draw)
            for other in others.values()
        ]
        [group], *counterfactuals = await _all(asked)
        found = {agent: groups[0].rewards for agent, groups in zip(others, counterfactuals, strict=True)}
        return Gathered(ticket, group, {agent: mean(rewards) for agent, rewards in found.items() if rewards})

    def _sampling(self, ticket: Ticket) -> Policy:
        """What the ticket's rollouts run under: its weights, hot enough to differ, nothing cut off the distribution."""
        policy = self._session.policy
        for agent in self._session.agents:
            policy = policy.with_weights(agent, ticket.weights.get(agent, ""))
        hot = {"temperature": self._config.temperature, "top_p": 1.0}
        sampling = {agent: {**policy.sampling.get(agent, {}), **hot} for agent in self._session.agents}
        return msgspec.structs.replace(policy, sampling=policy.sampling | sampling)

    def _without_learning(self, policy: Policy) -> dict[str, Policy]:
        if self._config.cooperation != "difference":
            return {}
        found = {agent: without_learning(policy, agent, self._session.policy) for agent in self._session.agents}
        return {agent: other for agent, other in found.items() if other is not None}


def _named(visit: Visit) -> tuple[str, int]:
    return visit.task.id, visit.draw


async def _all(asked: Sequence[Coroutine[Any, Any, list[Group]]]) -> list[list[Group]]:
    """What all of them give; what went wrong is raised when none is running any more."""
    found: list[list[Group]] = []
    for result in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found
