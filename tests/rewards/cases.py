"""Rollouts to judge."""

from __future__ import annotations

from typing import Any

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Trajectory


def rollout(expected: Any = None, output: Any = None, **fields: Any) -> tuple[Task, Trajectory]:
    """A task and a rollout of it that gave `output`."""
    task = Task(id="t-1", input="where is my parcel?", expected=expected)
    known: dict[str, Any] = {"id": "r-1", "agent_id": "a", "task": "t-1", "input": task.input, "timestamp": 0.0}
    return task, Trajectory(**known, output=output, expected=expected, **fields)
