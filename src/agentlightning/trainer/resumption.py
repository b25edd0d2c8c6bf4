"""What a run did before it was interrupted, read from its records, so that it can carry on from there.

What is on record is answered from there and counts as it did; what was in flight is made again. The same tasks,
settings and model answers then give the result that an uninterrupted run gives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentlightning.algorithms.base import Evaluation
from agentlightning.data.call import Reply
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import ConfigError
from agentlightning.store.base import Store
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.result import HistoryEntry
from agentlightning.trainer.runner import model_failure

_WORK = ("run", "rollout", "step", "completion", "evaluation", "checkpoint", "log")
"""Kinds of records that a run writes as it goes; people's feedback may come weeks later."""


class StageBefore(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stage stood at its last checkpoint. What it did later it does again, answered from the record."""

    state: Any
    """What its algorithm kept."""
    history: list[HistoryEntry]
    evaluations: dict[str, tuple[Policy, Evaluation]]
    """By policy id."""
    rollouts: frozenset[str]
    """Ids of those on record by then."""


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """The earlier parts of a run, together."""

    rollouts: list[Trajectory]
    """Those that are answered from the record."""
    answers: dict[str, Reply]
    """What our own models said, by question."""
    stages: dict[str, StageBefore]
    """Those whose algorithms kept checkpoints; the others are played again from their first question."""
    num_lost: int
    """Recorded model calls of all other rollouts: those that were cut off, and attempts that failed on the way."""
    seconds: float

    def describe(self) -> str:
        """One line for people."""
        lost = f"; {self.num_lost} calls were of rollouts that were cut off and are run anew" if self.num_lost else ""
        return f"resumed: {len(self.rollouts)} rollouts and {len(self.answers)} answers are on record{lost}"


async def read_before(store: Store, run_id: str, groups: Mapping[str, str], *, is_masked: bool = False) -> Before:
    """Everything on record of a run; `groups` are those of stages that have one. Where personal data is masked, a
    rollout that nobody judged cannot be judged later, so it is run anew."""
    runs = [t async for t in read_trajectories(store, {"run": run_id}) if _is_answer(t, is_masked)]
    answers = [stored.record async for stored in store.read("completion", {"run": run_id})]
    return Before(
        rollouts=runs,
        answers={record.id: msgspec.convert(record.body["reply"], Reply) for record in answers},
        stages=await _stages(store, run_id, groups),
        num_lost=await _num_lost(store, run_id, {t.id for t in runs}),
        seconds=await _seconds(store, run_id),
    )


async def _stages(store: Store, run_id: str, groups: Mapping[str, str]) -> dict[str, StageBefore]:
    """In the order of the record: a checkpoint speaks of everything before it."""
    found: dict[str, StageBefore] = {}
    policies: dict[str, Policy] = {}
    history: defaultdict[str, list[HistoryEntry]] = defaultdict(list)
    evaluations: defaultdict[str, dict[str, tuple[Policy, Evaluation]]] = defaultdict(dict)
    rollouts: defaultdict[str, set[str]] = defaultdict(set)
    async for stored in store.read(["policy", "evaluation", "rollout", "checkpoint"], {"run": run_id}):
        record, body = stored.record, stored.record.body
        stage = record.id if record.kind == "checkpoint" else body.get("stage", "")
        if record.kind == "policy":
            policies[record.id] = msgspec.convert(body.get("policy", body), Policy)
            if "history" in body:
                history[stage].append(msgspec.convert(body["history"], HistoryEntry))
        elif record.kind == "evaluation":
            measured = msgspec.convert(body, Evaluation)
            evaluations[stage][measured.policy_id] = (policies[measured.policy_id], measured)
        elif record.kind == "rollout":
            rollouts[stage].add(record.id)
        else:
            found[stage] = StageBefore(
                state=body["state"],
                history=list(history[stage]),
                evaluations=dict(evaluations[stage]),
                rollouts=frozenset(rollouts[stage] | rollouts[groups.get(stage, stage)]),
            )
    return found


def _is_answer(trajectory: Trajectory, is_masked: bool) -> bool:
    """Is this what running it again would give? Not where we stopped it, or its model could not be reached."""
    if trajectory.status == "stopped" or model_failure(trajectory) is not None:
        return False
    return trajectory.reward is not None or not is_masked


async def _num_lost(store: Store, run_id: str, kept: set[str]) -> int:
    steps = [stored.record async for stored in store.read("step", {"run": run_id, "kind": "model"})]
    return len({step.id for step in steps if step.rollout not in kept})


async def _seconds(store: Store, run_id: str) -> float:
    """How long the earlier parts took: those before the last one are in its record, it ended with its last record."""
    [latest] = [stored.record async for stored in store.read("run", {"id": run_id}, newest_first=True, limit=1)]
    [last] = [stored.record async for stored in store.read(_WORK, {"run": run_id}, newest_first=True, limit=1)]
    return latest.body.get("seconds_before", 0.0) + max(0.0, last.time - latest.body["started_at"])


async def check_unchanged(store: Store, run_id: str, config: Mapping[str, Any], tasks: Sequence[Task]) -> None:
    """What is on record answers only for the same tasks, split the same way, the same algorithms, rewards and weights.

    Raises ConfigError naming what changed.
    """
    first = [stored.record.body async for stored in store.read("run", {"id": run_id}, limit=1)]
    before: Mapping[str, Any] = (first[0].get("config") if first else None) or {}
    changed = [name for name in _FIXED if _at(before, name) != _at(config, name)]
    known = {stored.record.id: stored.record.body async for stored in store.read("task", {"run": run_id})}
    if known and known != {task.id: msgspec.to_builtins(task) for task in tasks} and "tasks" not in changed:
        changed.append("the tasks")
    if changed:
        raise ConfigError(
            f"run {run_id} cannot be resumed: {', '.join(changed)} changed since it began. Put that back as it was, or "
            "start a new run."
        )


_FIXED = ("algorithm", "tasks", "reward", "engine", "models.policy", "trainer.seed")


def _at(config: Mapping[str, Any], name: str) -> Any:
    """A setting by its dotted name; None where it is not given."""
    value: Any = config
    for part in name.split("."):
        value = (value or {}).get(part)
    return value
