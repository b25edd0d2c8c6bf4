"""APO: read what went wrong, propose better instructions, keep what scores better on the same tasks.

Reflective prompt evolution in the line of ProTeGi (arXiv 2305.03495) and GEPA (arXiv 2507.19457). Unlike GEPA: wider
reflection batches, several drafts of each proposal of which the most typical is run, a memory of rejected ideas,
acceptance by the mean difference over minibatch and validation together, worked examples and deletions at the end. Left
out, since they brought nothing in `benchmarks/apo`: Pareto parents, merging two candidates' lines, a bandit over
operators, judging on other tasks, putting lines back that a proposal lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from agentlightning.algorithms.apo import evidence
from agentlightning.algorithms.apo.demos import DemoPool
from agentlightning.algorithms.apo.evidence import Run
from agentlightning.algorithms.apo.finish import MAX_DELETIONS, MAX_DEMO_TESTS, MAX_JUDGES, Finish
from agentlightning.algorithms.apo.lines import LineLedger
from agentlightning.algorithms.apo.progress import Progress
from agentlightning.algorithms.apo.proposer import Asked, ProposalConfig, Proposer
from agentlightning.algorithms.apo.scoreboard import Comparison, pooled_mean
from agentlightning.algorithms.apo.search import Search, Turn
from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.data.resource import Policy
from agentlightning.errors import BudgetExhausted

_PATIENCE, _CAPPED_PATIENCE = 15, 40
"""Where a budget says what the search may cost, giving up early saves what was meant to be spent."""


class APOConfig(ProposalConfig):
    """Settings of APO; `benchmarks/apo` says what the defaults are worth."""

    minibatch_size: int = Field(default=8, ge=1)
    """Tasks run, reflected on and compared on in one round."""
    num_candidates: int = Field(default=3, ge=1)
    """Most proposals in one round; fewer when the budget is small."""
    rounds: int | None = Field(default=None, ge=1)
    """Most rounds; None: as many as epochs and budget allow."""
    bootstrap_demos: int | None = Field(default=None, ge=0)
    """Worked examples to try per agent, from its own best runs. None: 4, or
    a third of the tasks where that is less. They need no optimiser model."""
    delete_lines: bool = True
    """At the end, leave out lines that the evidence does not need."""
    patience: int | None = Field(default=None, ge=1)
    """Rounds in a row without an accepted candidate before the search ends. None: 15, or 40 where calls are capped."""


class APO(BaseAlgorithm[APOConfig]):
    """Automatic prompt optimisation of every site a session offers, within its budget."""

    name: ClassVar[str] = "apo"
    Config: ClassVar[type[AlgorithmConfig]] = APOConfig
    search_class: ClassVar[type[Search]] = Search
    """What runs and compares; an experiment may put another in its place."""

    async def train(self, session: Session) -> Policy:
        """The policy with the best validation mean (ties: the shorter), or the one it started from."""
        if reason := _reason_not_to_begin(session, self.config):
            session.log(f"apo: nothing to do, {reason}")
            return session.policy
        search = self.search_class(session, batch_size=self.config.minibatch_size, accepts=self.accepts)
        try:
            await _Hunt(search, self.config).run()
        except BudgetExhausted as spent:
            session.log(f"apo: the budget is spent ({spent}); keeping the best policy so far")
        return search.best

    def estimate_rollouts(self, num_training: int, num_validation: int, max_epochs: int) -> int:
        """Every round with all its candidates and a validation, then every test of the finish."""
        config, batch = self.config, min(self.config.minibatch_size, num_training)
        searching = self._most_rounds(num_training, max_epochs) * (batch * (1 + config.num_candidates) + num_validation)
        num_tests = MAX_DEMO_TESTS * (config.bootstrap_demos != 0) + MAX_DELETIONS * config.delete_lines
        return searching + num_tests * (min(MAX_JUDGES, num_training) + num_validation)

    def estimate_proposals(self, num_training: int, max_epochs: int) -> int:
        """All drafts of all candidates of every round."""
        return self.config.num_drafts * self.config.num_candidates * self._most_rounds(num_training, max_epochs)

    def _most_rounds(self, num_training: int, max_epochs: int) -> int:
        batch = min(self.config.minibatch_size, num_training)
        num_rounds = max_epochs * math.ceil(num_training / batch) if batch else 0
        return num_rounds if self.config.rounds is None else min(num_rounds, self.config.rounds)

    def accepts(self, validation: Comparison, training: Comparison) -> bool:
        """Is the challenger the better bet? A method, so that an experiment can ask for more than a positive mean."""
        return pooled_mean(validation, training) > 0


class _Hunt:
    """Rounds of candidates until there is a reason to stop, then the finish."""

    def __init__(self, search: Search, config: APOConfig) -> None:
        session = search.session
        self.search, self.config = search, config
        self.proposer = Proposer(session, config)
        self.demos = DemoPool(session, config.bootstrap_demos)
        self.ledger = LineLedger(session.sites)
        self.progress = Progress(
            session,
            self.ledger,
            max_rounds=config.rounds,
            patience=config.patience or (_PATIENCE if math.isinf(session.budget.calls_left) else _CAPPED_PATIENCE),
            has_fallback=self.demos.count > 0,
        )
        self.finish = Finish(search, self.progress, self.ledger)
        self._index = 0
        """Of the last round that began."""

    async def run(self) -> None:
        search = self.search
        await search.start()
        try:
            await self._rounds()
        except BudgetExhausted as spent:  # of the optimiser model's calls, it may be: what follows asks none
            search.session.log(f"apo: no more rounds, {spent}")
        await search.settle()
        await self.finish.try_demos(self.demos, self._index)
        await self._tidy(self._index)
        if told := self.proposer.describe_refusals():
            search.session.log(f"apo: {told}")

    async def _rounds(self) -> None:
        search = self.search
        for turn in search.turns():
            self._index = turn.index
            if self.progress.is_stuck and await self._tidy(turn.index):
                self.progress.begin_anew()
            num_candidates = await search.plan(turn, self.config.num_candidates, self.proposer.num_drafts)
            if reason := self.progress.reason_to_stop(turn, num_candidates):
                search.session.log(f"apo: done, {reason}")
                break
            await self._round(turn, num_candidates)

    async def _tidy(self, index: int) -> bool:
        """Whether lines were left out; the optimiser model is told not to bring them back."""
        if not self.config.delete_lines:
            return False
        await self.search.settle()
        dropped = await self.finish.delete_lines(index)
        self.proposer.forget(dropped)
        return bool(dropped)

    async def _round(self, turn: Turn, num_candidates: int) -> None:
        search = self.search
        room = max(0, self.config.max_runs_shown - len(turn.source))
        runs = evidence.classify(await search.runs(turn, at_most=room))
        self.demos.add(runs)
        if not any(run.is_failed for run in runs):
            self.progress.note_clean(turn, runs)
            return
        asked = await self._candidates(turn, runs, num_candidates)
        verdicts = await search.validate(await search.compare(asked.candidates, turn))
        accepted = search.promote(verdicts)
        self.proposer.learn(verdicts, accepted)
        self.ledger.learn(verdicts, turn)
        await self.progress.note_round(turn, asked, verdicts, accepted, search)

    async def _candidates(self, turn: Turn, runs: Sequence[Run], count: int) -> Asked:
        incumbent = self.search.incumbent
        if not self.progress.is_model_lost:
            return await self.proposer.propose(incumbent, runs, count, turn.index)
        judges = {task.id for task in turn.judges}
        return Asked(self.demos.candidates(incumbent, count, judges), 0, [])


def _reason_not_to_begin(session: Session, config: APOConfig) -> str | None:
    if not config.offered(session.sites):
        return "no prompt site of the agents to optimise was found in their calls"
    needed = 2 if session.is_cross_fitted else 1
    if len(session.training_tasks) < needed:
        return f"{len(session.training_tasks)} training tasks, at least {needed} needed"
    return None
