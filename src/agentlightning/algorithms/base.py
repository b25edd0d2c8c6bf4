"""The contract between an algorithm and everything else: it sees a session, never an agent, a framework or a file.

Write one by subclassing `BaseAlgorithm` with a `Config` and `train`; override `predict` only when what was learned is
more than a policy can say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.engine.base import Engine
from agentlightning.errors import ConfigError, near_miss


class AlgorithmConfig(BaseModel):
    """Settings of an algorithm: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=AlgorithmConfig)


class Evaluation(msgspec.Struct, frozen=True):
    """How a policy did on validation tasks: task id → mean reward. Tasks nothing could judge are in `unjudged`."""

    policy_id: str
    scores: dict[str, float]
    unjudged: list[str] = []

    @property
    def mean(self) -> float:
        """Mean over the judged tasks; 0.0 when there is none."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 0.0


class Epoch(msgspec.Struct, frozen=True):
    """One pass over the training tasks, in a seeded order."""

    index: int
    tasks: list[Task]

    def batches(self, size: int) -> Iterator[list[Task]]:
        """Consecutive batches; the last one may be shorter."""
        for start in range(0, len(self.tasks), size):
            yield self.tasks[start : start + size]


class BudgetView(Protocol):
    """What is left to spend on searching; the held-out test is already set aside."""

    @property
    def calls_left(self) -> float:
        """Model calls (task and optimiser together); infinity when not capped."""
        ...

    @property
    def calls_per_rollout(self) -> float:
        """Mean model calls one rollout has taken so far; at least 1 before any was seen."""
        ...


class TuningSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider trains a model; None leaves it to the provider."""

    model: str | dict[str, Any] | None = None
    """A name at the agent's own provider, or a mapping as in the configuration's `models`. None: the agent's model."""
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    suffix: str | None = None
    seed: int | None = None
    deployment: str | None = None
    """Azure: the name the trained model is called by."""
    usd_per_million_tokens: float | None = None
    poll_seconds: float = 10.0

    def hyperparameters(self) -> dict[str, float]:
        """Those that were set, by the provider's names."""
        named = {
            "n_epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }
        return {name: value for name, value in named.items() if value is not None}


Decision = Literal["accepted", "rejected", "refused"]
"""accepted: the new incumbent. rejected: measured, not better. refused: never run (slot lost, too long, truncated)."""


class Session(Protocol):
    """All an algorithm may ask for. Everything is budgeted, recorded, and answered from the record on resume.

    `rollout`, `evaluate` and `complete` raise `BudgetExhausted` when a hard cap is reached: return the best so far.
    """

    policy: Policy
    """Where this stage starts from."""
    agents: list[str]
    """The agents to optimise."""
    sites: list[PromptSite]
    """Their prompt sites with enough coverage."""
    seed: int
    is_cross_fitted: bool
    """Too few tasks to hold any out: validation tasks are the training tasks, so judge an idea on other tasks than
    those it came from."""
    restored: Any | None
    """The last checkpoint of an interrupted run of this stage."""
    engine: Engine | None
    """What holds the agents' weights; None when no model was given to train (`models.policy`)."""
    folder: Path
    """Where this stage may keep files of its own (checkpoints of weights); the same one after an interruption."""

    @property
    def budget(self) -> BudgetView: ...

    @property
    def training_tasks(self) -> list[Task]: ...

    @property
    def validation_tasks(self) -> list[Task]: ...

    def epochs(self) -> Iterator[Epoch]:
        """`max_epochs` passes over the training tasks; never a validation or test task."""
        ...

    async def rollout(
        self, tasks: list[Task], *, policy: Policy | None = None, n: int = 1, draw: int = 0
    ) -> list[Group]:
        """Run the agent `n` times on each task, concurrently. The same (policy, task, draw) is never paid twice."""
        ...

    async def evaluate(self, policy: Policy) -> Evaluation:
        """Mean reward of a policy on each validation task; cached."""
        ...

    async def complete(
        self,
        messages: list[Message],
        *,
        role: Literal["optimizer", "judge"] = "optimizer",
        draw: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        """Ask the optimiser or judge model. `draw` tells repeats of one question apart."""
        ...

    def trajectories(self, where: Mapping[str, Any] | None = None) -> list[Trajectory]:
        """What this run has seen so far, newest last; `where` compares fields (`{"split": "train"}`).

        `{"split": "live"}`: what the agent did in real use, with people's ratings as rewards.
        """
        ...

    async def choices(self) -> list[tuple[Trajectory, Trajectory]]:
        """What people chose between two rollouts of this agent, of whichever run: (better, worse).

        Never of a task that is held out from this stage.
        """
        ...

    async def fine_tune(
        self, examples: Sequence[Mapping[str, Any]], held_back: Sequence[Mapping[str, Any]], settings: TuningSettings
    ) -> str:
        """Have a provider train a model on examples (`{"messages": […], "tools": […]}`); gives the new model's name.

        The same question is never paid twice. Raises ModelError when the job fails, BudgetExhausted when too dear.
        """
        ...

    async def decide(
        self, candidate: Policy, decision: Decision, *, parent: Policy, reason: str, **details: Any
    ) -> None:
        """Put a decision about a candidate on record (and on screen)."""
        ...

    async def checkpoint(self, state: Any) -> None:
        """Remember JSON-able state; `restored` gives it back after an interruption."""
        ...

    def log(self, text: str, *, iteration: int | None = None, **metrics: float) -> None:
        """A line for the run's log, with numbers for its curves; with `iteration` (from 1), the line that ends it."""
        ...


class BaseAlgorithm(Generic[ConfigT]):
    """Subclass, set `Config`, implement `train`; `predict` says what learning does to an outgoing call.

    class Mine(BaseAlgorithm):
        async def train(self, session): ...
    """

    name: ClassVar[str] = ""
    Config: ClassVar[type[AlgorithmConfig]] = AlgorithmConfig
    needs_engine: ClassVar[bool] = False
    """It trains weights: refused, before the first call, where no model was given to train."""
    hands_over: ClassVar[bool] = False
    """It can leave all of its learning to an engine that learns elsewhere (`engine.base.LearnsElsewhere`)."""

    resumes_from_checkpoint: ClassVar[bool] = False
    """`train` goes on from `session.restored`, and does not ask again for the rollouts that led to it. Without it, a
    resumed `train` asks all its questions again, and those asked before are answered from the record."""

    def __init__(self, config: ConfigT | None = None, **params: Any) -> None:
        """Settings as an object or as keyword arguments; a wrong one is a ConfigError that names the nearest."""
        self.config: ConfigT = config if config is not None else self._parse(params)

    def train(self, session: Session) -> Policy | Awaitable[Policy]:
        """Learn, and give back the policy to carry on with. Called once per stage; sync or async."""
        raise NotImplementedError(f"{type(self).__name__} must implement train(session).")

    def predict(self, call: Call, policy: Policy) -> Call:
        """The call as it should be sent under `policy`. Pure; runs on the agent's own thread, or, where it is
        `async`, on a loop of its own while the agent's call waits."""
        return policy.apply(call).call

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int | None:
        """About how many rollouts `train` asks for at most, for the plan shown before the first call; None: unknown."""
        return None

    def estimate_proposals(self, num_training: int, max_epochs: int) -> int | None:
        """About how many proposals `train` asks the optimiser model for at most, for the same plan; None: unknown."""
        return None

    def plan_note(self) -> str:
        """What it does besides rollouts that costs something, for the same plan; empty when there is nothing."""
        return ""

    @classmethod
    def _parse(cls, params: dict[str, Any]) -> Any:
        label = cls.name or cls.__name__
        known = list(cls.Config.model_fields)
        for key in params:
            if key not in known:
                raise ConfigError(
                    f"algorithm {label!r} has no parameter {key!r}.{near_miss(key, known)} "
                    f"Known: {', '.join(known) or 'none'}."
                )
        try:
            return cls.Config(**params)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            message = f"algorithm {label!r}, parameter {where!r}: {first['msg']} (given: {first['input']!r})"
            raise ConfigError(message) from error
