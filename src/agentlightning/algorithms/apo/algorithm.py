"""APO: read what went wrong, propose better instructions, keep what scores better on the same tasks.

Reflective prompt evolution in the line of ProTeGi (arXiv 2305.03495) and GEPA (arXiv 2507.19457). Unlike GEPA: wider
reflection batches, several proposals a round, a memory of rejected ideas, acceptance by the mean difference over
minibatch and validation together; left out, since they brought nothing in `benchmarks/apo`: Pareto parents, merging.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from agentlightning.algorithms.apo import evidence
from agentlightning.algorithms.apo.progress import Progress
from agentlightning.algorithms.apo.proposer import ProposalConfig, Proposer
from agentlightning.algorithms.apo.scoreboard import Comparison, pooled_mean
from agentlightning.algorithms.apo.search import Search
from agentlightning.algorithms.base import AlgorithmConfig, BaseAlgorithm, Session
from agentlightning.data.resource import Policy
from agentlightning.errors import BudgetExhausted


class APOConfig(ProposalConfig):
    """Settings of APO; `benchmarks/apo` says what the defaults are worth."""

    minibatch_size: int = Field(default=8, ge=1)
    """Tasks run, reflected on and compared on in one round."""
    num_candidates: int = Field(default=3, ge=1)
    """Most proposals in one round; fewer when the budget is small."""
    rounds: int | None = Field(default=None, ge=1)
    """Most rounds; None: as many as epochs and budget allow."""
    patience: int = Field(default=15, ge=1)
    """Rounds in a row without an accepted candidate before the search ends."""


class APO(BaseAlgorithm[APOConfig]):
    """Automatic prompt optimisation of every site a session offers, within its budget."""

    name: ClassVar[str] = "apo"
    Config: ClassVar[type[AlgorithmConfig]] = APOConfig

    async def train(self, session: Session) -> Policy:
        """The policy with the best validation mean (ties: the shorter), or the one it started from."""
        if reason := _reason_not_to_begin(session):
            session.log(f"apo: nothing to do, {reason}")
            return session.policy
        config = self.config
        search = Search(session, batch_size=config.minibatch_size, accepts=self.accepts)
        proposer = Proposer(session, config)
        progress = Progress(session, max_rounds=config.rounds, patience=config.patience)
        try:
            await search.start()
            for turn in search.turns():
                num_candidates = await search.plan(turn, config.num_candidates)
                if reason := progress.reason_to_stop(turn, num_candidates):
                    session.log(f"apo: done, {reason}")
                    break
                runs = evidence.classify(await search.run(search.incumbent, turn.source))
                if not any(run.is_failed for run in runs):
                    progress.note_clean(turn, runs)
                    continue
                asked = await proposer.propose(search.incumbent, runs, num_candidates, turn.index)
                verdicts = await search.validate(await search.compare(asked.candidates, turn))
                accepted = search.promote(verdicts)
                proposer.learn(verdicts, accepted)
                await progress.note_round(turn, asked, verdicts, accepted, search)
        except BudgetExhausted as spent:
            session.log(f"apo: the budget is spent ({spent}); keeping the best policy so far")
        return search.best

    def accepts(self, validation: Comparison, training: Comparison) -> bool:
        """Is the challenger the better bet? A method, so that an experiment can ask for more than a positive mean."""
        return pooled_mean(validation, training) > 0


def _reason_not_to_begin(session: Session) -> str | None:
    if not session.sites:
        return "no prompt site of the agents to optimise was found in their calls"
    needed = 2 if session.is_cross_fitted else 1
    if len(session.training_tasks) < needed:
        return f"{len(session.training_tasks)} training tasks, at least {needed} needed"
    return None
