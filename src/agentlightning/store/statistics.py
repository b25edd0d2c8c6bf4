"""Numbers about rollouts from the store alone: how many, how good, what went wrong, what they cost, how long they took.

Nothing of a run needs to be alive for it, and nothing is kept: the same store always gives the same numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterable, Sequence
from typing import Any

import msgspec

from agentlightning.data.features import features
from agentlightning.data.trajectory import Trajectory
from agentlightning.store.base import Store, Where
from agentlightning.store.liveness import status_of
from agentlightning.store.trajectories import read_trajectories

PERCENTILES = (50, 90, 99)


class Tally(msgspec.Struct):
    """Rollouts of one policy, split or agent."""

    num_rollouts: int = 0
    num_judged: int = 0
    num_decided: int = 0
    """Those of which success is known: judged ones, and those that failed without being judged."""
    num_succeeded: int = 0
    total_reward: float = 0.0

    @property
    def mean_reward(self) -> float | None:
        return self.total_reward / self.num_judged if self.num_judged else None

    @property
    def success(self) -> float | None:
        """Share of successes among those decided."""
        return self.num_succeeded / self.num_decided if self.num_decided else None


class TagCount(msgspec.Struct):
    """How many rollouts show a kind of failure, and the latest one that does."""

    num_rollouts: int = 0
    example: str = ""
    step: int | None = None


class Statistics(msgspec.Struct, kw_only=True):
    """All numbers. Latencies in seconds by percentile; empty when nothing was timed."""

    total: Tally
    policies: dict[str, Tally]
    splits: dict[str, Tally]
    agents: dict[str, Tally]
    statuses: dict[str, int]
    tags: dict[str, TagCount]
    """The most frequent first."""
    num_model_calls: int
    num_tool_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    usd: float
    num_unpriced: int
    """Rollouts with model calls whose price is not known; `usd` is without them."""
    call_seconds: dict[int, float]
    rollout_seconds: dict[int, float]
    num_in_flight: int = 0
    """Rollouts of running runs of which there are steps and no end."""


async def statistics(store: Store, where: Where | None = None) -> Statistics:
    """The numbers of the rollouts that match; `num_in_flight` counts over all runs, or the one in `where`."""
    numbers = await _count(read_trajectories(store, where))
    numbers.num_in_flight = await _in_flight(store, (where or {}).get("run"))
    return numbers


async def latest_runs(store: Store) -> dict[str, dict[str, Any]]:
    """Run id → what its records say, later ones over earlier ones, in the order the runs began. The status of one
    whose process is gone is `interrupted`."""
    runs: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    async for stored in store.read("run"):
        runs[stored.record.id].update(stored.record.body)
    return {id: body | {"status": status_of(body)} for id, body in runs.items()}


async def tallies_by_run(store: Store) -> dict[str, Tally]:
    """Run id ("" for live use outside any run) → its rollouts so far, without reading a step."""
    latest: dict[str, tuple[str, float | None, Any]] = {}
    async for stored in store.read("rollout"):
        body = stored.record.body
        latest[stored.record.id] = (stored.record.run, body.get("reward"), (body.get("features") or {}).get("success"))
    runs: defaultdict[str, Tally] = defaultdict(Tally)
    for run, reward, success in latest.values():
        _add(runs[run], reward, success)
    return dict(runs)


def percentiles(values: Sequence[float]) -> dict[int, float]:
    """The PERCENTILES of the values (nearest rank); empty for none."""
    ordered = sorted(values)
    return {p: ordered[max(0, -(-p * len(ordered) // 100) - 1)] for p in PERCENTILES} if ordered else {}


async def _count(trajectories: AsyncIterable[Trajectory]) -> Statistics:
    total, statuses, tags = Tally(), defaultdict[str, int](int), defaultdict[str, TagCount](TagCount)
    policies, splits, agents = (defaultdict[str, Tally](Tally) for _ in range(3))
    counts, usd, calls, rollouts = defaultdict[str, int](int), 0.0, list[float](), list[float]()
    async for trajectory in trajectories:
        found = trajectory.features or features(trajectory)
        for tally in (total, policies[trajectory.policy_id], splits[trajectory.split], agents[trajectory.agent_id]):
            _add(tally, trajectory.reward, found.success)
        statuses[trajectory.status] += 1
        for tag in found.error_tags:
            tags[tag.name] = TagCount(tags[tag.name].num_rollouts + 1, trajectory.id, tag.step)
        counts["model"] += found.num_model_calls
        counts["tool"] += found.num_tool_calls
        for name in ("input_tokens", "output_tokens", "cached_tokens"):
            counts[name] += getattr(trajectory.usage, name)
        usd += trajectory.usd or 0.0
        counts["unpriced"] += trajectory.usd is None and found.num_model_calls > 0
        calls += [step.latency_seconds for step in trajectory.model_steps if step.latency_seconds is not None]
        rollouts += [] if trajectory.seconds is None else [trajectory.seconds]
    return Statistics(
        total=total,
        policies=dict(policies),
        splits=dict(splits),
        agents=dict(agents),
        statuses=dict(statuses),
        tags=dict(sorted(tags.items(), key=lambda entry: (-entry[1].num_rollouts, entry[0]))),
        num_model_calls=counts["model"],
        num_tool_calls=counts["tool"],
        input_tokens=counts["input_tokens"],
        output_tokens=counts["output_tokens"],
        cached_tokens=counts["cached_tokens"],
        usd=usd,
        num_unpriced=counts["unpriced"],
        call_seconds=percentiles(calls),
        rollout_seconds=percentiles(rollouts),
    )


def _add(tally: Tally, reward: float | None, success: bool | None) -> None:
    tally.num_rollouts += 1
    if reward is not None:
        tally.num_judged += 1
        tally.total_reward += reward
    if success is not None:
        tally.num_decided += 1
        tally.num_succeeded += success


async def _in_flight(store: Store, run: str | None) -> int:
    running = [id for id, body in (await latest_runs(store)).items() if body.get("status") == "running"]
    wanted = [id for id in running if run in (None, id)]
    if not wanted:
        return 0
    begun = {stored.record.rollout async for stored in store.read("step", {"run": wanted})}
    ended = {stored.record.id async for stored in store.read("rollout", {"run": wanted})}
    return len(begun - ended)
