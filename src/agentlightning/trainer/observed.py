"""What the trainer tells site discovery: the calls it saw, with what could explain their varying parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentlightning.data.call import message_text
from agentlightning.data.trajectory import Trajectory
from agentlightning.interception.sites import ObservedCall


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
