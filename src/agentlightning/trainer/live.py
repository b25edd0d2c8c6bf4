"""An agent in real use leaves rollouts of split `live` in a store, and what its users say is attached to them.

Nothing here may slow the agent down or break it: steps are read and written off its threads, and a store that fails is
logged, counted (`num_lost`) and otherwise left to itself. Budgets, time-outs and closed scopes are for training runs.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.call import Usage
from agentlightning.data.opinion import rating_record
from agentlightning.data.processor import clean_step
from agentlightning.data.record import Record, make_record, new_id
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task, to_task
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError
from agentlightning.interception.recorder import Recorder, plain
from agentlightning.interception.scope import Scope
from agentlightning.rewards.feedback import ratings, read_feedback
from agentlightning.store.base import Store
from agentlightning.store.open import open_store
from agentlightning.store.trajectories import read_trajectories, trajectory_records

LIVE_RUN = "live"
"""What live rollouts have for a run."""
MAX_LIVE = 10_000
"""Live rollouts a training run looks at, the newest."""

_log = logging.getLogger(__name__)


class LiveCollector:
    """Keeps the rollouts of an agent in one store; safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self.num_lost = 0
        """Rollouts that could not be kept."""
        self._store = store
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="agentlightning-live")
        self._known_policies: set[str] = set()
        self._last: Future[None] | None = None
        atexit.register(self.flush)

    def begin(self, agent_id: str, input: Any, policy: Policy, **steering: Any) -> LiveRollout:
        """A call of the agent begins."""
        scope = Scope(agent_id, policy=policy, recorder=Recorder(new_id("r")), **steering)
        return LiveRollout(agent_id, input, scope, self._keep)

    def append(self, records: Sequence[Record]) -> None:
        """Keep records behind everything that ended before; durable when it returns."""
        self.flush()
        self._store.submit(records).result()

    def flush(self) -> None:
        """Wait until everything that ended before is durable."""
        if self._last is not None:
            self._last.result()

    def _keep(self, rollout: LiveRollout) -> None:
        self._last = self._worker.submit(self._write, rollout)

    def _write(self, rollout: LiveRollout) -> None:
        try:
            policy, records = rollout.scope.policy, trajectory_records(rollout.trajectory(), with_steps=True)
            if policy.id not in self._known_policies:
                records = [make_record("policy", policy.id, policy, run=LIVE_RUN), *records]
            self._store.submit(records).result()
            self._known_policies.add(policy.id)
        except Exception:  # noqa: BLE001 - whatever the store raises must not reach the agent
            self.num_lost += 1
            _log.exception("a live rollout of %s could not be kept", rollout.agent_id)


class LiveRollout:
    """One call of the agent in real use."""

    def __init__(self, agent_id: str, input: Any, scope: Scope, keep: Callable[[LiveRollout], None]) -> None:
        self.agent_id = agent_id
        self.scope = scope
        self._input = plain(input)
        self._keep = keep
        self._output: Any = None
        self._error: str | None = None
        self._seconds = 0.0
        self._started_at, self._t0 = time.time(), time.perf_counter()

    @property
    def id(self) -> str:
        assert self.scope.recorder is not None
        return self.scope.recorder.rollout_id

    def end(self, output: Any = None, error: BaseException | None = None) -> None:
        """The agent answered, or raised."""
        self._output = plain(output)
        self._error = f"{type(error).__name__}: {error}" if error is not None else None
        self._seconds = time.perf_counter() - self._t0
        self._keep(self)

    def trajectory(self) -> Trajectory:
        """The rollout as the standard record; it has no reward until somebody says something about it."""
        assert self.scope.recorder is not None
        steps = [clean_step(step) for step in self.scope.recorder.steps()]
        usages = [step.reply.usage for step in steps if step.reply is not None and step.reply.usage is not None]
        given = self._input if isinstance(self._input, str | dict) else {"input": self._input}
        return Trajectory(
            id=self.id,
            agent_id=self.agent_id,
            task=to_task({"input": given}).id,
            input=given,
            output=self._output,
            timestamp=self._started_at,
            seconds=self._seconds,
            run_id=LIVE_RUN,
            split="live",
            policy_id=self.scope.policy.id,
            status="failed" if self._error else "succeeded",
            error=self._error,
            steps=steps,
            rewards=list(self.scope.rewards),
            usage=Usage(sum(u.input_tokens for u in usages), sum(u.output_tokens for u in usages)),
        )


@cache
def _collector_at(address: str) -> LiveCollector:
    return LiveCollector(open_store(address))


def collector(store: Any) -> LiveCollector:
    """What `wrap_agent(store=…)` collects with: one for each address, so that agents beside each other share it."""
    if isinstance(store, str | Path):
        address = str(store)
        return _collector_at(address if "://" in address else str(Path(address).expanduser().resolve()))
    return LiveCollector(store)


def feedback(
    rollout_id: str,
    rating: float | bool | None = None,
    *,
    store: Any,
    scale: tuple[float, float] = (0.0, 1.0),
    correction: Any = None,
    comment: str = "",
    rater: str = "",
) -> None:
    """Keep what somebody said about a rollout; durable when it returns.

    `rating` lies on `scale` (True and False are its ends); `correction` is the answer it should have given, which
    becomes the expected one when training starts from live rollouts. Raises DataError for a rating off the scale or
    for feedback that says nothing, StoreError when it cannot be kept.
    """
    ends = (False, True) if isinstance(rating, bool) else scale
    record = rating_record(
        rollout_id,
        rating,
        ends,
        run=LIVE_RUN,
        rater=rater,
        comment=comment,
        correction=None if correction is None else plain(correction),
    )
    collector(store).append([record])


async def live_trajectories(store: Store, agent_id: str, *, limit: int = MAX_LIVE) -> list[Trajectory]:
    """The newest live rollouts of an agent, oldest first; those that people rated have that as their reward."""
    where = {"run": LIVE_RUN, "agent_id": agent_id}
    found = [t async for t in read_trajectories(store, where, limit=limit, newest_first=True)]
    bodies = await _feedback(store)
    rated = ratings(read_feedback(bodies))
    judged = [
        msgspec.structs.replace(t, reward=rated[t.id].value, rewards=[rated[t.id].as_reward()]) if t.id in rated else t
        for t in found
    ]
    return judged[::-1]


async def live_tasks(store: Store, agent_id: str, *, limit: int = MAX_LIVE) -> list[Task]:
    """What the agent was really asked, each input once, with the answer people said it should have given.

    DataError when nothing was collected.
    """
    found = await live_trajectories(store, agent_id, limit=limit)
    if not found:
        raise DataError(
            f"there are no live rollouts of agent {agent_id!r} in {store.address}. Use the agent for a while, wrapped "
            "with wrap_agent(agent, store=…), the same store as here and under the same name."
        )
    corrections = {body["rollout"]: body["correction"] for body in await _feedback(store) if "correction" in body}
    tasks: dict[str, Task] = {}
    for t in found:
        expected = corrections.get(t.id, tasks[t.task].expected if t.task in tasks else None)
        tasks[t.task] = Task(t.task, t.input, expected)
    return list(tasks.values())


async def _feedback(store: Store) -> list[dict[str, Any]]:
    """The latest of each piece of feedback, oldest first."""
    latest = {s.record.id: s.record.body async for s in store.read("feedback", {"run": LIVE_RUN})}
    return sorted(latest.values(), key=lambda body: body.get("at", 0.0))
