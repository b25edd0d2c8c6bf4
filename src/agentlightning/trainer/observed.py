"""What the trainer tells site discovery: the calls it saw, with what could explain their varying parts.

The baseline shows few tasks. Where that leaves a prompt that cannot be used, the original agent is run on a few of the
training tasks, too, before the prompt is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from agentlightning.data.call import message_text
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import BudgetExhausted
from agentlightning.interception.sites import ObservedCall, SiteReport, discover_sites
from agentlightning.trainer.budget import Budget
from agentlightning.trainer.rollouts import SHARED_STAGE, Rollouts

_ENOUGH_TASKS = 20
"""With so many seen, more of them hardly change what is found."""
_MOST_OF_BUDGET = 0.05


def observed_calls(trajectories: Iterable[Trajectory]) -> Iterator[ObservedCall]:
    """Every model call of unsteered rollouts, in order."""
    for trajectory in trajectories:
        if trajectory.policy_id != "original":
            continue
        tool_results: list[str] = []
        for step in trajectory.steps:
            if step.kind != "model":
                tool_results.append(str(step.result))
                continue
            if step.call is None:
                continue
            said = [message_text(message) for message in step.call.messages if message.get("role") == "tool"]
            yield ObservedCall(trajectory.task, trajectory.input, step.call, [*tool_results, *said])


async def find_sites(rollouts: Rollouts, training: Sequence[Task], budget: Budget) -> SiteReport:
    """The prompt sites in what the original agent was seen saying, after a longer look where that pays."""
    report = discover_sites(list(observed_calls(rollouts.as_seen())))
    more = _unseen(rollouts, training) if any(site.template for site, _ in report.unusable) else []
    affordable = int(_MOST_OF_BUDGET * min(budget.calls_left / budget.calls_per_rollout, 1e6))
    if not more[:affordable]:
        return report
    try:
        await rollouts.groups(more[:affordable], policy=Policy(), split="train", stage=SHARED_STAGE)
    except BudgetExhausted:
        return report
    return discover_sites(list(observed_calls(rollouts.as_seen())))


def _unseen(rollouts: Rollouts, training: Sequence[Task]) -> list[Task]:
    """Training tasks the original was not run on, as many as are missing from enough."""
    seen = {trajectory.task for trajectory in rollouts.all if trajectory.policy_id == "original"}
    return [task for task in training if task.id not in seen][: max(0, _ENOUGH_TASKS - len(seen))]


def knowing(policy: Policy, report: SiteReport) -> Policy:
    """The policy with every site that was found, so that a call of another prompt is not taken for one that changed."""
    known = {site.id for site in policy.sites}
    found = [*report.sites, *(site for site, _ in report.unusable)]
    return msgspec.structs.replace(policy, sites=[*policy.sites, *(site for site in found if site.id not in known)])
