"""What stands in the body of each kind of record: the written contract between those who write a store and its readers.

Bodies only ever gain fields. Readers leave aside what they do not know, and writers never change what a field means.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentlightning.data.call import Message, Reply
from agentlightning.data.opinion import Feedback
from agentlightning.data.record import RecordKind
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.structure import Structure
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Step, Trajectory


class RunBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A training run or an evaluation; recorded when it begins and when it ends, the latest counts."""

    status: str
    """running, finished, failed or stopped."""
    agent: str
    started_at: float
    """Seconds since the epoch."""
    kind: str = ""
    """training or evaluation; said when it begins."""
    config: dict[str, Any] = {}
    structure: Structure | None = None
    """How the agent is built; said when it begins."""
    health: list[str] = []
    """What will not work as it should with this agent, one sentence each; said when it begins."""
    folder: str = ""
    """Where the configuration's relative paths start; said when it begins."""
    error: str | None = None
    result: dict[str, Any] | None = None
    """A finished training's TrainingResult."""
    mean: float | None = None
    """A finished evaluation's mean reward, of `policy`."""
    policy: str | None = None


class DecisionBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A policy that was proposed, and what became of it. (A policy that is only run is recorded as itself.)"""

    policy: Policy
    decision: str
    """accepted, rejected or refused."""
    parent: str
    reason: str
    stage: str = ""
    details: dict[str, Any] = {}


class EvaluationBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a policy did on validation tasks: task id → mean reward."""

    policy_id: str
    scores: dict[str, float]
    unjudged: list[str] = []
    mean: float
    stage: str = ""


class CompletionBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call of our own to the optimiser or judge model, with its answer."""

    role: str
    messages: list[Message]
    reply: Reply


class LogBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of a run's log, with numbers for its curves."""

    text: str
    stage: str = ""
    metrics: dict[str, float] = {}


class CheckpointBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far somebody is: an algorithm's own `state`, or a consumer's `cursor` (id `consumer:<name>`)."""

    state: Any = None
    cursor: str | None = None


BODIES: dict[RecordKind, Any] = {
    "run": RunBody,
    "stage": dict[str, Any],
    "task": Task,
    "rollout": Trajectory,
    "step": Step,
    "policy": Policy | DecisionBody,
    "site": PromptSite,
    "evaluation": EvaluationBody,
    "completion": CompletionBody,
    "metric": dict[str, Any],
    "log": LogBody,
    "feedback": Feedback,
    "control": dict[str, Any],
    "checkpoint": CheckpointBody,
}
"""Kind → its body. A mapping of anything: no release so far promises what is inside. A rollout's steps are records."""
