"""Progress for programs: one JSON object a line on standard output, for everything a run tells.

The structs are the contract: `event` says which one a line is; fields are only ever added.
"""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

import msgspec

from agentlightning.algorithms.base import Decision, Evaluation
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory
from agentlightning.trainer.callbacks import Callback
from agentlightning.trainer.measure import Measurement
from agentlightning.trainer.result import TrainingResult


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag=str.lower):
    """What every line has."""

    run: str
    at: float
    """Seconds since the epoch."""


class Start(Event, frozen=True, kw_only=True):
    """A run begins; `plan` says in words what will happen and what it may cost."""

    plan: list[str]


class Stage(Event, frozen=True, kw_only=True):
    """A part of the run begins: preflight, baseline, each algorithm, the held-out test."""

    stage: str
    text: str


class Work(Event, frozen=True, kw_only=True):
    """That many rollouts were asked for."""

    stage: str
    num_rollouts: int


class Estimate(Event, frozen=True, kw_only=True):
    """A stage will ask for about so many rollouts at most."""

    stage: str
    num_rollouts: int


class Rollout(Event, frozen=True, kw_only=True):
    """One rollout is judged and stored."""

    rollout: str
    stage: str
    task: str
    split: str
    policy: str
    status: str
    reward: float | None
    error: str | None
    seconds: float | None
    num_calls: int
    """Model calls of the agent."""
    usd: float | None


class Evaluated(Event, frozen=True, kw_only=True):
    """A policy was measured on the validation tasks."""

    stage: str
    policy: str
    mean: float | None
    num_tasks: int
    num_unjudged: int


class Candidate(Event, frozen=True, kw_only=True):
    """An algorithm decided about a candidate: accepted, rejected or refused."""

    stage: str
    policy: str
    decision: str
    reason: str


class Log(Event, frozen=True, kw_only=True):
    """A line of the algorithm's log, with numbers for curves."""

    stage: str
    text: str
    metrics: dict[str, float]


class Iteration(Event, frozen=True, kw_only=True):
    """An algorithm has ended a round of its own, counted from 1."""

    stage: str
    iteration: int
    metrics: dict[str, float]


class Note(Event, frozen=True, kw_only=True):
    """Something the user should know: a fallback, a warning, a limit."""

    text: str


class Error(Event, frozen=True, kw_only=True):
    """The run ended without a result; what it did is in the store."""

    kind: str
    text: str


class Measured(Event, frozen=True, kw_only=True):
    """An evaluation (`agentlightning eval`) is done."""

    policy: str
    mean: float | None
    num_tasks: int
    num_unjudged: int
    reward_source: str
    cost: dict[str, Any]


class End(Event, frozen=True, kw_only=True):
    """A training run is done, and everything is written. `result.json` in `output_dir` holds all of it."""

    verdict: str
    baseline: float | None
    final: float | None
    difference: float | None
    interval: tuple[float, float] | None
    num_test_tasks: int
    output_dir: str
    cost: dict[str, Any]
    notes: list[str]


EVENTS: tuple[type[Event], ...] = (
    Start, Stage, Estimate, Work, Rollout, Evaluated, Candidate, Log, Iteration, Note, Error, Measured, End,
)  # fmt: skip


class JsonLinesProgress(Callback):
    """Writes each event as soon as it happens."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._is_heard = True
        self._run = ""
        self._stage = ""

    def on_run_start(self, run_id: str, plan: list[str]) -> None:
        self._run = run_id
        self._write(Start, plan=plan)

    def on_stage_start(self, stage: str, text: str) -> None:
        self._write(Stage, stage=stage, text=text)

    def on_estimate(self, stage: str, num_rollouts: int) -> None:
        self._write(Estimate, stage=stage, num_rollouts=num_rollouts)

    def on_work(self, stage: str, num_rollouts: int) -> None:
        self._write(Work, stage=stage, num_rollouts=num_rollouts)

    def on_rollout_end(self, trajectory: Trajectory) -> None:
        self._write(
            Rollout,
            rollout=trajectory.id,
            stage=trajectory.stage,
            task=trajectory.task,
            split=trajectory.split,
            policy=trajectory.policy_id,
            status=trajectory.status,
            reward=trajectory.reward,
            error=trajectory.error,
            seconds=trajectory.seconds,
            num_calls=len(trajectory.model_steps),
            usd=trajectory.usd,
        )

    def on_evaluation(self, stage: str, evaluation: Evaluation) -> None:
        self._write(Evaluated, stage=stage, policy=evaluation.policy_id, **_counts(evaluation))

    def on_candidate(self, stage: str, candidate: Policy, decision: Decision, reason: str) -> None:
        self._write(Candidate, stage=stage, policy=candidate.id, decision=decision, reason=reason)

    def on_log(self, stage: str, text: str, metrics: dict[str, float]) -> None:
        self._write(Log, stage=stage, text=text, metrics=metrics)

    def on_iteration(self, stage: str, iteration: int, metrics: dict[str, float]) -> None:
        self._write(Iteration, stage=stage, iteration=iteration, metrics=metrics)

    def on_note(self, text: str) -> None:
        self._write(Note, text=text)

    def on_run_error(self, error: BaseException) -> None:
        self._write(Error, kind=type(error).__name__, text=str(error))

    def on_measured(self, measurement: Measurement) -> None:
        given, cost = measurement, msgspec.to_builtins(measurement.cost)
        self._write(
            Measured, policy=given.policy_id, reward_source=given.reward_source, cost=cost, **_counts(given)
        )  # fmt: skip

    def on_run_end(self, result: TrainingResult) -> None:
        names = [name for name in End.__struct_fields__ if name not in ("run", "at", "cost")]
        values = {name: getattr(result, name) for name in names}
        self._write(End, cost=msgspec.to_builtins(result.cost), **values)

    def _write(self, event: type[Event], /, **fields: Any) -> None:
        if not self._is_heard:
            return
        line = msgspec.json.encode(event(run=self._run, at=time.time(), **fields)).decode()
        file = self._file or sys.stdout  # asked each time: tests and notebooks put another in its place
        try:
            file.write(f"{line}\n")
            file.flush()
        except BrokenPipeError:  # whoever read is gone; a run that is paid for goes on
            self._is_heard = False


def _counts(measured: Evaluation | Measurement) -> dict[str, Any]:
    mean = measured.mean if measured.scores else None
    return {"mean": mean, "num_tasks": len(measured.scores), "num_unjudged": len(measured.unjudged)}
