"""Which rollouts are worth learning from, and why each of the others is not.

Nothing is dropped in silence: whoever is left out is listed with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

import msgspec

from agentlightning.data.duplicates import deduplicate
from agentlightning.data.features import SUCCESS_REWARD
from agentlightning.data.task import Split
from agentlightning.data.trajectory import Trajectory

LEARNABLE: tuple[Split, ...] = ("train", "live")
"""Learning from validation or test rollouts would make every later measurement on them worthless."""


class LeftOut(msgspec.Struct, frozen=True):
    """A rollout that was not taken, and why."""

    rollout: str
    task: str
    reason: str


class Selection(msgspec.Struct, frozen=True):
    """Those taken, in their order, and all others."""

    kept: list[Trajectory]
    left_out: list[LeftOut]


def judged(trajectories: Iterable[Trajectory], *, splits: Collection[Split] = LEARNABLE) -> Selection:
    """Rollouts that ended by themselves, have a reward, belong to `splits`, and do not repeat another one."""
    kept: list[Trajectory] = []
    left_out: list[LeftOut] = []
    for trajectory in trajectories:
        if reason := _why_not(trajectory, splits):
            left_out.append(leave_out(trajectory, reason))
        else:
            kept.append(trajectory)
    distinct = deduplicate(kept)
    ids = {trajectory.id for trajectory in distinct}
    left_out += [leave_out(t, "the same as another rollout") for t in kept if t.id not in ids]
    return Selection(distinct, left_out)


def best(selection: Selection, *, min_reward: float = SUCCESS_REWARD, best_of: int = 1) -> Selection:
    """Of each task the `best_of` rollouts with the highest rewards, none under `min_reward`; the earlier wins a tie."""
    tasks: defaultdict[str, list[Trajectory]] = defaultdict(list)
    left_out = list(selection.left_out)
    for trajectory in selection.kept:
        if trajectory.reward is None or trajectory.reward < min_reward:
            left_out.append(leave_out(trajectory, f"reward under {min_reward:g}"))
        elif trajectory.status != "succeeded":
            left_out.append(leave_out(trajectory, f"the rollout ended as {trajectory.status}"))
        else:
            tasks[trajectory.task].append(trajectory)
    chosen: set[str] = set()
    for rollouts in tasks.values():
        ranked = sorted(rollouts, key=lambda t: -(t.reward or 0.0))
        chosen |= {t.id for t in ranked[:best_of]}
        left_out += [leave_out(t, f"not among the {best_of} best of its task") for t in ranked[best_of:]]
    return Selection([t for t in selection.kept if t.id in chosen], left_out)


def leave_out(trajectory: Trajectory, reason: str) -> LeftOut:
    return LeftOut(trajectory.id, trajectory.task, reason)


def _why_not(trajectory: Trajectory, splits: Collection[Split]) -> str | None:
    if trajectory.split not in splits:
        return f"split {trajectory.split} is kept for measuring"
    if trajectory.status == "stopped":
        return "it was stopped by us, not ended by the agent"
    if trajectory.reward is None:
        return "nothing judged it"
    return None
