"""How good is an agent on these tasks, as it is or under a policy? A measurement, and nothing is learned."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.trainer import wording
from agentlightning.trainer.bench import Bench
from agentlightning.trainer.result import Cost
from agentlightning.trainer.rollouts import SHARED_STAGE, agent_error

STAGE = "evaluation"


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Rewards of one policy on some tasks."""

    mean: float | None
    """Over the judged tasks; None when nothing could be judged."""
    scores: dict[str, float]
    """Task id → reward."""
    unjudged: list[str]
    trajectories: list[Trajectory]
    policy_id: str
    reward_source: str
    cost: Cost
    run_id: str
    notes: list[str] = []

    def __repr__(self) -> str:
        """Short: every trajectory is in the fields."""
        mean = "nothing judged" if self.mean is None else f"mean reward {wording.number(self.mean)}"
        return f"<Measurement of {self.policy_id}: {mean} on {wording.counted(len(self.scores), 'task')}>"

    def summary(self) -> str:
        """A few lines for people: the mean, what is missing, the lowest scores and why."""
        mean = "nothing could be judged" if self.mean is None else f"mean reward {wording.number(self.mean)}"
        lines = [f"{self.policy_id}: {mean} on {wording.counted(len(self.scores), 'task')} ({self.reward_source})"]
        if self.unjudged:
            lines.append(f"{len(self.unjudged)} more got no reward and are left out")
        judged = [trajectory for trajectory in self.trajectories if trajectory.reward is not None]
        lowest = sorted(judged, key=lambda t: t.reward or 0.0)[:5]
        return "\n".join([*lines, *(_line(trajectory) for trajectory in lowest)])


async def measure(bench: Bench, tasks: Sequence[Task], policy: Policy) -> Measurement:
    """Run `policy` once on every task. Raises like a training run: AgentError, ModelError, ConfigError, …"""
    plan = [f"agent {bench.agent.agent_id} under {policy.id}, {len(tasks)} tasks", f"budget: {bench.budget.describe()}"]
    try:
        await bench.announce("evaluation", plan)
        await bench.choose_reward(await bench.try_out(tasks), tasks)
        bench.callbacks.tell("on_stage_start", STAGE, f"measuring {policy.id}")
        stage = SHARED_STAGE if policy.is_original else STAGE
        groups = await bench.rollouts.groups(tasks, policy=policy, split="train", stage=stage)
        trajectories = [trajectory for group in groups for trajectory in group.trajectories]
        if error := agent_error(trajectories):
            raise error
    except BaseException as error:
        await bench.record_run(await bench.ended_by(error), error=f"{type(error).__name__}: {error}")
        raise
    finally:
        await bench.close()
    scores = {group.task_id: group.mean for group in groups if group.mean is not None}
    result = Measurement(
        mean=sum(scores.values()) / len(scores) if scores else None,
        scores=scores,
        unjudged=[group.task_id for group in groups if group.mean is None],
        trajectories=trajectories,
        policy_id=policy.id,
        reward_source=bench.rollouts.source.description if bench.rollouts.source else "",
        cost=bench.cost(),
        run_id=bench.run_id,
        notes=bench.notes,
    )
    await bench.record_run("finished", mean=result.mean, policy=policy.id)
    return result


def _line(trajectory: Trajectory) -> str:
    said = f"{str(trajectory.input)[:60]!r} → {str(trajectory.output)[:40]!r}"
    return f"  {trajectory.reward:.2f}  {said}  {trajectory.reason or ''}"[:160]
