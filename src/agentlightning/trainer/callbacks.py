"""Hooks: what a run tells whoever listens (progress bars, trackers, the user's own code).

Hooks run on the trainer's thread and must be quick. One that raises ends the run with that error: a broken tracker
that loses data silently would be worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentlightning.algorithms.base import Decision, Evaluation
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory

if TYPE_CHECKING:
    from agentlightning.trainer.measure import Measurement
    from agentlightning.trainer.result import TrainingResult


class Callback:
    """Override what you want to hear of."""

    def on_run_start(self, run_id: str, plan: list[str]) -> None:
        """`plan` says in words what will happen and what it may cost, before the first call."""

    def on_stage_start(self, stage: str, text: str) -> None:
        """A part of the run begins: preflight, baseline, each algorithm, the held-out test."""

    def on_estimate(self, stage: str, num_rollouts: int) -> None:
        """A stage will ask for about so many rollouts at most; told after `on_stage_start`, where it is known."""

    def on_work(self, stage: str, num_rollouts: int) -> None:
        """That many rollouts were asked for."""

    def on_rollout_start(self, stage: str, task: str, policy_id: str) -> None:
        """The agent is about to be run on a task. Not told of what is answered from the record."""

    def on_rollout_end(self, trajectory: Trajectory) -> None:
        """One rollout is judged and stored."""

    def on_evaluation(self, stage: str, evaluation: Evaluation) -> None:
        """A policy was measured on the validation tasks."""

    def on_candidate(self, stage: str, candidate: Policy, decision: Decision, reason: str) -> None:
        """An algorithm decided about a candidate."""

    def on_log(self, stage: str, text: str, metrics: dict[str, float]) -> None:
        """A line for people, with numbers for curves."""

    def on_iteration(self, stage: str, iteration: int, metrics: dict[str, float]) -> None:
        """An algorithm has ended a round of its own (counted from 1); its line came as `on_log`."""

    def on_own_call(self, role: str, usd: float | None) -> None:
        """The optimiser or judge model answered us; `usd` is None where its price is not known."""

    def on_note(self, text: str) -> None:
        """Something the user should know: a fallback, a warning, a limit."""

    def on_interrupt(self) -> None:
        """Ctrl-C: nothing new begins, and what is in flight is waited for. A second one stops at once."""

    def on_run_error(self, error: BaseException) -> None:
        """The run ended without a result; what it did is in the store."""

    def on_measured(self, measurement: Measurement) -> None:
        """`Trainer.evaluate` is done."""

    def on_run_end(self, result: TrainingResult) -> None:
        """Everything is written."""


class Callbacks:
    """Several listeners as one; calls are forwarded in order."""

    def __init__(self, listeners: list[Callback]) -> None:
        self.listeners = listeners

    def tell(self, hook: str, *args: Any) -> None:
        for listener in self.listeners:
            getattr(listener, hook)(*args)
