"""The same thing collected twice teaches nothing new: equal trajectories become one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from agentlightning.data.trajectory import Trajectory


def deduplicate(trajectories: Iterable[Trajectory]) -> list[Trajectory]:
    """One of each set of trajectories with the same agent, input, output and content of steps, in order.

    Ids, times, latencies, rewards and token ids do not tell two apart. A judged one is kept rather than an unjudged one
    (in the unjudged one's place), else the first.
    """
    kept: dict[bytes, Trajectory] = {}
    for trajectory in trajectories:
        key = _content(trajectory)
        if key not in kept or (kept[key].reward is None and trajectory.reward is not None):
            kept[key] = trajectory
    return list(kept.values())


def _content(trajectory: Trajectory) -> bytes:
    steps = [
        [
            step.kind,
            step.agent,
            step.call and [step.call.model, step.call.messages, step.call.tools, step.call.params],
            step.reply and step.reply.message,
            step.name,
            step.arguments,
            step.result,
            step.error,
        ]
        for step in trajectory.steps
    ]
    content = [trajectory.agent_id, trajectory.input, trajectory.output, trajectory.error, steps]
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).digest()
