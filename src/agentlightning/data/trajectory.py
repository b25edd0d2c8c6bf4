"""What one run of the agent looked like: its steps, its rewards, and the standard record they form."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agentlightning.data.call import Call, Reply, Usage
from agentlightning.data.task import Split

ENGINE = "engine:"
"""What the endpoint of a step begins with that an engine of ours answered."""
StepKind = Literal["model", "tool", "function"]
RolloutStatus = Literal["succeeded", "failed", "timeout", "stopped"]
"""succeeded: the agent returned. stopped: ended by us (budget, Ctrl-C); never evidence about the agent."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model or tool call seen in a rollout."""

    id: str
    rollout_id: str
    index: int
    """Order of the calls' beginnings within the rollout, from 0."""
    kind: StepKind
    agent: str
    started_at: float
    """Seconds since the epoch."""
    latency_seconds: float | None = None
    call: Call | None = None
    """Model steps: the call as it was sent, so after steering."""
    reply: Reply | None = None
    name: str | None = None
    """Tool and function steps: which one, with what, giving what."""
    arguments: Any = None
    result: Any = None
    error: str | None = None
    status: int | None = None
    """HTTP status of a model call."""
    retry: int = 0
    """How many sends of the same logical call came before this one."""
    is_partial: bool = False
    """The stream was not read to its end."""
    is_simulated: bool = False
    """The tool did not run: a stub, or the tape of earlier calls, answered."""
    dialect: str | None = None
    endpoint: str | None = None
    """Scheme, host and path that were called, never the query or a header; or `engine:` and the model that answered."""
    policy_id: str | None = None
    steered_sites: list[str] = []
    missed_sites: list[str] = []
    """Sites whose template did not match this call, which therefore passed untouched."""
    prompt_ids: list[int] | None = None
    completion_ids: list[int] | None = None
    logprobs: list[float] | None = None

    @property
    def is_from_engine(self) -> bool:
        """Was it answered by an engine of ours, so that nothing was sent?"""
        return self.endpoint is not None and self.endpoint.startswith(ENGINE)


class Reward(msgspec.Struct, frozen=True, omit_defaults=True):
    """How good a rollout was, who says so, and why. The reason is what prompt optimisation reads."""

    value: float
    reason: str | None = None
    name: str = "reward"
    source: Literal["function", "emitted", "expected", "judge", "human"] = "function"
    is_metric: bool = False
    """Only recorded, never maximised."""
    step: int | None = None
    """The one answer it is about, where it was emitted for a step; None: about the whole run."""


class ErrorTag(msgspec.Struct, frozen=True, omit_defaults=True):
    """A kind of failure, with the step that shows it."""

    name: str
    step: int | None = None
    evidence: str = ""


class Features(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the processor reads out of a trajectory."""

    task_type: str = "unknown"
    success: bool | None = None
    error_tags: list[ErrorTag] = []
    num_model_calls: int = 0
    num_tool_calls: int = 0


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The standard record: one rollout, whatever agent or framework it came from."""

    id: str
    """The rollout's id."""
    agent_id: str
    task: str
    """The task's id."""
    input: str | dict[str, Any]
    output: Any = None
    reward: float | None = None
    """None when nothing judged it; such a rollout is never trained on as zero."""
    timestamp: float
    """When it began, seconds since the epoch."""
    seconds: float | None = None
    run_id: str = ""
    stage: str = ""
    split: Split = "train"
    policy_id: str = ""
    draw: int = 0
    """Which repeat of (policy, task) this is."""
    attempt: int = 1
    status: RolloutStatus = "succeeded"
    error: str | None = None
    expected: Any = None
    metadata: dict[str, Any] = {}
    steps: list[Step] = []
    rewards: list[Reward] = []
    features: Features | None = None
    usage: Usage = Usage()
    usd: float | None = None
    """Price of the task-model calls; None when a model's price is not known."""

    @property
    def reason(self) -> str | None:
        """Why the reward is what it is, when its source said so."""
        return next((r.reason for r in self.rewards if r.reason and not r.is_metric and r.step is None), None)

    @property
    def model_steps(self) -> list[Step]:
        return [step for step in self.steps if step.kind == "model"]


class Group(msgspec.Struct, frozen=True):
    """The rollouts of one task under one policy."""

    task_id: str
    trajectories: list[Trajectory]

    @property
    def rewards(self) -> list[float]:
        """The rewards there are, in order of the draws; rollouts without one are left out."""
        return [t.reward for t in self.trajectories if t.reward is not None]

    @property
    def mean(self) -> float | None:
        rewards = self.rewards
        return sum(rewards) / len(rewards) if rewards else None
