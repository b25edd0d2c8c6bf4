"""GEPA (arXiv 2507.19457) by its own package, on the same prompt sites: for comparing, or for those who prefer it.

gepa searches on a thread of its own and asks for rollouts through its adapter interface; slots, length cap and leaked
answers are checked as for APO before a candidate is run. Its minibatch is 8 here, not 3. Its cache stays off: a session
never pays for a rollout twice, and gepa 0.1.4 takes a training and a validation task at the same place for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import json
import math
import re
from collections.abc import Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from agentlightning.algorithms.apo.proposal import Proposal, Rules
from agentlightning.algorithms.apo.proposer import TextConfig
from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.errors import BudgetExhausted, MissingExtra, ModelError

T = TypeVar("T")
_MAX_FAILURES = 2
_PERFECT = 1.0
"""Runs that all have it show nothing to learn from; taken for perfect only where no higher reward was seen."""
_ABOVE_ZERO = 1e-9
_TELLING = re.compile(
    r"Base program|Proposed new text|Accepted|not better|Skipping|[Mm]erge|[Ee]rror|[Ee]xception|fail"
)
_UNTELLING = re.compile(r"No merge candidates|pareto|valset score")
Texts = dict[str, str]
"""Site id → text: what gepa calls a candidate."""


class GEPAConfig(TextConfig):
    """Settings handed to `gepa.optimize`."""

    minibatch_size: int = Field(default=8, ge=1)
    """Tasks a proposal is drawn from and first compared on (gepa's own default: 3)."""
    use_merge: bool = False
    """Also combine candidates, site by site; needs several sites."""
    rounds: int | None = Field(default=None, ge=1)
    """Most iterations; None: as many as epochs and budget allow."""
    show_expected: bool = True
    """Show the tasks' expected answers to the optimiser model."""


class GEPA(BaseAlgorithm[GEPAConfig]):
    """gepa's Pareto-guided reflective search over every site a session offers."""

    name: ClassVar[str] = "gepa"
    Config: ClassVar[type[AlgorithmConfig]] = GEPAConfig

    async def train(self, session: Session) -> Policy:
        """The policy with the best validation mean. Raises MissingExtra without the gepa package."""
        package = _package("gepa")
        if not self.config.offered(session.sites) or not session.training_tasks:
            session.log("gepa: nothing to do, there is no prompt site or no training task")
            return session.policy
        adapter = SessionAdapter(session, self.config, asyncio.get_running_loop())
        search = functools.partial(
            package.optimize,
            seed_candidate={site.id: session.policy.text_at(site) for site in self.config.offered(session.sites)},
            trainset=session.training_tasks,
            valset=session.validation_tasks,
            adapter=adapter,
            reflection_lm=adapter.reflect,
            reflection_minibatch_size=min(self.config.minibatch_size, len(session.training_tasks)),
            stop_callbacks=adapter.is_over,
            use_merge=self.config.use_merge,
            perfect_score=_PERFECT + adapter.shift,
            skip_perfect_score=adapter.highest <= _PERFECT,
            logger=adapter,
            seed=session.seed,
        )
        with contextlib.suppress(BudgetExhausted, ModelError):  # told below: gepa swallows some of them itself
            await asyncio.to_thread(search)
        if adapter.stop_reason:
            session.log(f"gepa: ended early, {adapter.stop_reason}; keeping the best policy so far")
        return adapter.best

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int:
        """Every iteration with two minibatches and a validation."""
        return self.estimate_proposals(num_training, max_epochs) * (2 * self.config.minibatch_size + num_validation)

    def estimate_proposals(self, num_training: int, max_epochs: int) -> int:
        """One in every iteration."""
        most = max_epochs * math.ceil(num_training / self.config.minibatch_size)
        return most if self.config.rounds is None else min(most, self.config.rounds)


class SessionAdapter:
    """A session in the shape of gepa's adapter; its methods are called on gepa's thread and wait for the loop."""

    propose_new_texts = None
    """gepa's own proposer writes the texts."""

    def __init__(self, session: Session, config: GEPAConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.session, self.config = session, config
        self.best = session.policy
        rewards = [run.reward for run in session.trajectories() if run.reward is not None]
        self.highest, self._lowest = max(rewards, default=0.0), min([0.0, *rewards])
        """Rewards seen so far. What must not be run, or has no reward, counts as the lowest: among negative rewards, 0
        would be a prize."""
        self.shift = 1.0 - 10 * self._lowest if config.use_merge else 0.0
        """Added to every reward: gepa's merge draws by mean rewards, and fails where they are not above 0."""
        self._loop = loop
        self._rules = Rules([*session.training_tasks, *session.validation_tasks])
        self._best_mean = -math.inf
        self._decided = {session.policy.id}
        self.stop_reason = ""
        self._num_asked = self._num_failed = 0
        batches = sum(math.ceil(len(epoch.tasks) / config.minibatch_size) for epoch in session.epochs())
        self._max_rounds = batches if config.rounds is None else min(batches, config.rounds)
        self._make_batch = _package("gepa.core.adapter").EvaluationBatch

    # -- what gepa calls ------------------------------------------------------------------------------------------

    def evaluate(self, batch: Sequence[Task], candidate: Texts, capture_traces: bool = False) -> Any:
        """Rewards of a candidate; one that must not be run gets the lowest, and a line in the record."""
        policy = self._policy(candidate)
        if problems := self._problems(candidate):
            self._decide(policy, "refused", "; ".join(problems))
            lost: list[Trajectory | None] = [None] * len(batch)
            return self._make_batch(outputs=lost, scores=self._scores([None] * len(batch)), trajectories=lost)
        if self._is_validation(batch):
            measured = self._validate(policy)
            if not (capture_traces and self.session.is_cross_fitted):  # else the rollouts below are there already
                found = self._scores([measured.get(task.id) for task in batch])
                nothing: list[Trajectory | None] = [None] * len(batch)
                return self._make_batch(outputs=nothing, scores=found, trajectories=nothing if capture_traces else None)
        groups = self._wait(self.session.rollout(list(batch), policy=policy))
        runs = [_first_run(group) for group in groups]
        scores = self._scores([group.mean for group in groups])
        return self._make_batch(outputs=runs, scores=scores, trajectories=runs if capture_traces else None)

    def make_reflective_dataset(
        self, candidate: Texts, eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """One record per run, the same for every site."""
        records = [self._record(run) for run in eval_batch.trajectories if run is not None]
        return dict.fromkeys(components_to_update, records)

    def reflect(self, prompt: Any) -> str:
        """An answer of the optimiser model. gepa goes on after an error: two in a row end the search."""
        self._num_asked += 1
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": str(prompt)}]
        try:
            reply = self._wait(self.session.complete(messages, draw=self._num_asked))
        except ModelError as error:
            self._num_failed += 1
            if self._num_failed >= _MAX_FAILURES:
                self.stop_reason = f"the optimiser model failed {self._num_failed} times in a row ({error})"
            raise
        self._num_failed = 0
        return reply.text

    def is_over(self, state: Any) -> bool:
        """Whether another iteration must not begin."""
        budget = self.session.budget
        rollouts = 2 * self.config.minibatch_size + len(self.session.validation_tasks)
        if self.stop_reason or state.i + 1 >= self._max_rounds:
            return True
        return budget.calls_left < 1 + rollouts * budget.calls_per_rollout

    def log(self, message: str) -> None:
        """gepa's log lines, as far as they tell a person something, shortened to one line each."""
        if _TELLING.search(message) and not _UNTELLING.search(message):
            told = " ".join(message.split())
            self._loop.call_soon_threadsafe(self.session.log, f"gepa: {told[:200]}{'…' * (len(told) > 200)}")

    # -- behind it ------------------------------------------------------------------------------------------------

    def _is_validation(self, batch: Sequence[Task]) -> bool:
        """All validation tasks, or (before a merge) a few: either way the whole validation is measured, once."""
        ids, known = {task.id for task in batch}, {task.id for task in self.session.validation_tasks}
        return ids == known or (ids < known and not self.session.is_cross_fitted)

    def _scores(self, means: Sequence[float | None]) -> list[float]:
        self._lowest = min([self._lowest, *(mean for mean in means if mean is not None)])
        rewards = [self._lowest if mean is None else mean for mean in means]
        return [max(reward + self.shift, _ABOVE_ZERO) for reward in rewards] if self.shift else rewards

    def _validate(self, policy: Policy) -> dict[str, float]:
        evaluation = self._wait(self.session.evaluate(policy))
        if evaluation.mean > self._best_mean:
            parent, before = self.best, self._best_mean
            self.best, self._best_mean = policy, evaluation.mean
            self._decide(policy, "accepted", f"{evaluation.mean:.3f} in validation, before {before:.3f}", parent)
        else:
            self._decide(policy, "rejected", f"{evaluation.mean:.3f} in validation, best {self._best_mean:.3f}")
        return evaluation.scores

    def _decide(self, policy: Policy, decision: Any, reason: str, parent: Policy | None = None) -> None:
        if policy.id not in self._decided:
            self._decided.add(policy.id)
            self._wait(self.session.decide(policy, decision, parent=parent or self.best, reason=reason))

    def _policy(self, candidate: Texts) -> Policy:
        policy = self.session.policy
        for site in self.config.offered(self.session.sites):
            policy = policy.with_prompt(site, candidate[site.id])
        return policy

    def _problems(self, candidate: Texts) -> list[str]:
        problems: list[str] = []
        for site in self.config.offered(self.session.sites):
            text, current = candidate[site.id], self.session.policy.text_at(site)
            cap = self.config.cap(site)
            if text != current:
                problems += self._rules.problems(Proposal("", text), site, current, cap)
        return problems

    def _record(self, run: Trajectory) -> dict[str, Any]:
        told = [f"score {run.reward}", run.error or "", run.reason or ""]
        if self.config.show_expected and run.expected is not None:
            told.append(f"expected: {run.expected}")
        output = run.output if isinstance(run.output, str) else json.dumps(run.output, default=str)
        return {"Inputs": run.input, "Generated Outputs": output, "Feedback": "; ".join(filter(None, told))}

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
        except BudgetExhausted as spent:
            self.stop_reason = f"the budget is spent ({spent})"
            raise


def _first_run(group: Group) -> Trajectory | None:
    return group.trajectories[0] if group.trajectories else None


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra("algorithm 'gepa' needs the gepa package:  pip install 'agentlightning[gepa]'") from error
