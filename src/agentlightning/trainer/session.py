"""The session an algorithm sees: rollouts, evaluations and model answers, budgeted, recorded, repeatable.

Everything an algorithm can learn comes through here, so an interrupted run resumes by running the algorithm again: what
it asks for was answered before and is answered the same way from the record, until it asks for something new.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from agentlightning.algorithms.base import BudgetView, Decision, Epoch, Evaluation, TuningSettings
from agentlightning.data.call import Message, Reply
from agentlightning.data.record import make_record, new_id
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Split, Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.engine.base import Engine
from agentlightning.rewards.opinions import Opinions
from agentlightning.store.base import Store
from agentlightning.trainer.budget import Budget
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.own_models import OwnModels
from agentlightning.trainer.provider_jobs import ProviderJobs
from agentlightning.trainer.result import HistoryEntry
from agentlightning.trainer.resumption import StageBefore
from agentlightning.trainer.rollouts import Rollouts
from agentlightning.trainer.scoring import question_key
from agentlightning.trainer.writes import Writes


class RunSession:
    """One stage's view of the run; see `algorithms.base.Session` for the promises."""

    def __init__(
        self,
        *,
        stage: str,
        policy: Policy,
        agents: list[str],
        sites: list[PromptSite],
        training_tasks: list[Task],
        validation_tasks: list[Task],
        is_cross_fitted: bool,
        max_epochs: int,
        seed: int,
        rollouts: Rollouts,
        models: OwnModels,
        budget: Budget,
        store: Store,
        callbacks: Callbacks,
        engine: Engine | None,
        folder: Path,
        opinions: Callable[[], Awaitable[Opinions]],
        group: str = "",
        restored: Any | None = None,
        before: StageBefore | None = None,
    ) -> None:
        """Rollouts of the policy that a `group` of stages begins with are shared among its stages.

        After an interruption: `restored` is the stage's last checkpoint, and `before` where it stood then, when it
        goes on from there."""
        self.stage = stage
        self.policy = policy
        self.agents = agents
        self.sites = sites
        self.training_tasks = training_tasks
        self.validation_tasks = validation_tasks
        self.is_cross_fitted = is_cross_fitted
        self.seed = seed
        self.engine = engine
        self.folder = folder
        self.restored = restored
        self.before = before
        self.evaluations = dict(before.evaluations) if before else dict[str, tuple[Policy, Evaluation]]()
        self.history = list(before.history) if before else list[HistoryEntry]()
        self._opinions = opinions
        self._max_epochs = max_epochs
        self._group = group
        self._rollouts = rollouts
        self._models = models
        self._jobs = ProviderJobs(run_id=rollouts.runner.run_id, store=store, budget=budget, models=models)
        self._budget = budget
        self._store = store
        self._writes = Writes(store)
        self._callbacks = callbacks
        self._epoch = 0
        self.last_log = ""

    @property
    def budget(self) -> BudgetView:
        return self._budget

    def epochs(self) -> Iterator[Epoch]:
        for index in range(self._max_epochs):
            self._epoch = index
            tasks = sorted(self.training_tasks, key=lambda task: task.id)
            random.Random(f"{self.seed}/{self.stage}/{index}").shuffle(tasks)
            yield Epoch(index, tasks)

    async def rollout(
        self, tasks: list[Task], *, policy: Policy | None = None, n: int = 1, draw: int = 0
    ) -> list[Group]:
        return await self._groups(tasks, policy or self.policy, "train", n, draw)

    async def evaluate(self, policy: Policy) -> Evaluation:
        if policy.id in self.evaluations:
            return self.evaluations[policy.id][1]
        split: Split = "train" if self.is_cross_fitted else "validation"
        groups = await self._groups(self.validation_tasks, policy, split, 1, 0)
        scores = {group.task_id: group.mean for group in groups if group.mean is not None}
        unjudged = [group.task_id for group in groups if group.mean is None]
        evaluation = Evaluation(policy.id, scores, unjudged)
        self.evaluations[policy.id] = (policy, evaluation)
        body = msgspec.to_builtins(evaluation) | {"mean": evaluation.mean, "stage": self.stage}
        await self._record("evaluation", f"{self.stage}.{policy.id}", body)
        self._callbacks.tell("on_evaluation", self.stage, evaluation)
        return evaluation

    async def complete(
        self,
        messages: list[Message],
        *,
        role: Literal["optimizer", "judge"] = "optimizer",
        draw: int = 0,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> Reply:
        key = question_key(role, self.stage, messages, draw, temperature, max_tokens)
        return await self._models.complete(
            messages, role=role, key=key, seed=self.seed + draw, temperature=temperature, max_tokens=max_tokens
        )

    async def choices(self) -> list[tuple[Trajectory, Trajectory]]:
        kept_apart = set() if self.is_cross_fitted else {task.id for task in self.validation_tasks}
        found = (await self._opinions()).without(kept_apart)
        return [(pair.better, pair.worse) for pair in found.choices()]

    async def fine_tune(
        self, examples: Sequence[Mapping[str, Any]], held_back: Sequence[Mapping[str, Any]], settings: TuningSettings
    ) -> str:
        return await self._jobs.tuned(examples, held_back, settings, self.log)

    def trajectories(self, where: Mapping[str, Any] | None = None) -> list[Trajectory]:
        wanted = dict(where or {})
        pool = self._rollouts.live if wanted.get("split") == "live" else self._rollouts.all
        return [
            trajectory
            for trajectory in pool
            if trajectory.split != "test" and all(getattr(trajectory, key) == value for key, value in wanted.items())
        ]

    async def decide(
        self, candidate: Policy, decision: Decision, *, parent: Policy, reason: str, **details: Any
    ) -> None:
        known = self.evaluations.get(candidate.id)
        entry = HistoryEntry(
            policy_id=candidate.id,
            parent_id=parent.id,
            stage=self.stage,
            iteration=int(details.get("round", self._epoch)),
            decision=decision,
            reason=reason,
            validation_mean=known[1].mean if known else None,
            site=details.get("site"),
            idea=details.get("idea"),
            edits=details.get("edits", []),
        )
        self.history.append(entry)
        body = {"policy": candidate, "decision": decision, "parent": parent.id, "reason": reason, "stage": self.stage}
        await self._record("policy", candidate.id, body | {"details": details, "history": entry})
        self._callbacks.tell("on_candidate", self.stage, candidate, decision, reason)

    async def checkpoint(self, state: Any) -> None:
        await self._record("checkpoint", self.stage, {"state": state})
        self._rollouts.runner.interrupt.check()  # a good place to stop

    def log(self, text: str, *, iteration: int | None = None, **metrics: float) -> None:
        body: dict[str, Any] = {"text": text, "stage": self.stage, "metrics": metrics}
        if iteration is not None:
            body["iteration"] = iteration
        self._writes.submit(make_record("log", new_id("l"), body, run=self._rollouts.runner.run_id))
        self.last_log = text
        self._callbacks.tell("on_log", self.stage, text, metrics)
        if iteration is not None:
            self._callbacks.tell("on_iteration", self.stage, iteration, metrics)

    @property
    def has_measured_another(self) -> bool:
        """Was any policy measured but the one it started from?"""
        return bool(self.evaluations.keys() - {self.policy.id}) or any(e.decision != "refused" for e in self.history)

    def best(self) -> Policy:
        """The policy with the best validation mean so far; the starting one when nothing was measured or beat it."""
        best, best_mean = self.policy, float("-inf")
        if self.policy.id in self.evaluations:
            best_mean = self.evaluations[self.policy.id][1].mean
        for policy, evaluation in self.evaluations.values():
            if evaluation.scores and evaluation.mean > best_mean:
                best, best_mean = policy, evaluation.mean
        return best

    async def _groups(self, tasks: list[Task], policy: Policy, split: Split, n: int, draw: int) -> list[Group]:
        shared = self._group if policy.id == self.policy.id else ""
        stage = shared or self.stage
        return await self._rollouts.groups(tasks, policy=policy, split=split, stage=stage, n=n, draw=draw)

    async def _record(self, kind: Any, id: str, body: Any) -> None:
        self._writes.check()
        await self._store.append([make_record(kind, id, body, run=self._rollouts.runner.run_id)])


class BlockingSession:
    """The same session for an algorithm whose `train` is not async: its coroutines become plain calls that wait."""

    def __init__(self, session: RunSession, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._session, name)
        return self._waiting(value) if inspect.iscoroutinefunction(value) else value

    def _waiting(self, coroutine_function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(coroutine_function(*args, **kwargs), self._loop).result()

        return call
