"""What a person reads about a search: each decision on record, one line per round, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentlightning.algorithms.apo.evidence import Run
from agentlightning.algorithms.apo.lines import LineLedger
from agentlightning.algorithms.apo.proposer import Asked
from agentlightning.algorithms.apo.search import Search, Turn, Verdict
from agentlightning.algorithms.base import Session

_STUCK_ROUNDS = 10
_MAX_SILENT_ROUNDS = 2
_MAX_FALLBACK_ROUNDS = 5
"""Rounds in a row without an accepted candidate, those in which the model was silent included."""


class Progress:
    """Counts what a search may not do forever, and tells what it did."""

    def __init__(
        self, session: Session, ledger: LineLedger, *, max_rounds: int | None, patience: int, has_fallback: bool
    ) -> None:
        self.session, self.ledger = session, ledger
        self._max_rounds = math.inf if max_rounds is None else max_rounds
        self._patience = patience
        self._has_fallback = has_fallback
        """Candidates can be made without the optimiser model."""
        self._num_stale = 0
        """Rounds in a row without an accepted candidate."""
        self._num_silent = 0
        """Rounds in a row in which the optimiser model gave no answer at all."""
        self._num_clean = 0
        """Tasks in a row on which the incumbent left nothing to mend."""
        self._last_failure = ""

    @property
    def is_model_lost(self) -> bool:
        """The optimiser model gave no answer in two rounds in a row: it is not asked again."""
        return self._num_silent >= _MAX_SILENT_ROUNDS

    @property
    def is_stuck(self) -> bool:
        """More rounds like the last ones will bring nothing."""
        return self.is_clean or self._num_stale >= min(_STUCK_ROUNDS, self._patience)

    def begin_anew(self) -> None:
        """The incumbent was changed between the rounds: there may be failures to learn from again."""
        self._num_clean = self._num_stale = 0

    @property
    def is_clean(self) -> bool:
        """A whole pass over the training tasks left nothing to mend."""
        return self._num_clean >= len(self.session.training_tasks)

    def reason_to_stop(self, turn: Turn, num_candidates: int) -> str | None:
        """Why the round must not begin, or None."""
        if turn.index >= self._max_rounds:
            return f"all {turn.index} rounds are done"
        if self.is_clean:
            return "there is nothing to learn from: one pass over the training tasks showed no failed run"
        if self._num_stale >= self._patience:
            return f"no candidate was accepted in {self._num_stale} rounds"
        if self.is_model_lost and (not self._has_fallback or self._num_stale >= _MAX_FALLBACK_ROUNDS):
            return f"the optimiser model failed in {self._num_silent} rounds in a row ({self._last_failure})"
        if not num_candidates:
            return f"{self.session.budget.calls_left:.0f} calls left are too few for another round"
        return None

    def note_clean(self, turn: Turn, runs: Sequence[Run]) -> None:
        """The incumbent left nothing to mend on this turn's tasks."""
        self._num_clean += len(turn.source)
        found = f"all {len(runs)} runs passed" if runs else "no run could be judged"
        self.session.log(f"apo round {turn.index + 1}: {found}; on to other tasks", iteration=turn.index + 1)

    async def note_round(
        self, turn: Turn, asked: Asked, verdicts: Sequence[Verdict], accepted: Verdict | None, search: Search
    ) -> None:
        """Put the round's decisions and its line on record."""
        self._num_clean = 0
        self._num_stale = 0 if accepted else self._num_stale + 1
        if not self.is_model_lost:
            self._note_answers(asked)
        for verdict in verdicts:
            await self._decide(verdict, turn, is_accepted=verdict is accepted)
        self._log(turn, asked, accepted, search)

    async def note_test(self, turn: Turn, verdict: Verdict, *, is_accepted: bool) -> None:
        """Put a test between or after the rounds on record."""
        await self._decide(verdict, turn, is_accepted=is_accepted)
        outcome = "accepted" if is_accepted else "not accepted"
        self.session.log(f"apo: {outcome} ({verdict.effect}): {verdict.candidate.idea}")

    def _note_answers(self, asked: Asked) -> None:
        self._num_silent = self._num_silent + 1 if asked.failures and not asked.num_answered else 0
        self._last_failure = asked.failures[-1] if asked.failures else self._last_failure
        if self.is_model_lost and self._has_fallback:
            self.session.log(f"apo: the optimiser model does not answer ({self._last_failure}); trying worked examples")

    async def _decide(self, verdict: Verdict, turn: Turn, *, is_accepted: bool) -> None:
        candidate = verdict.candidate
        reason = verdict.effect
        if not is_accepted and verdict.is_promising and not verdict.validation.count:
            reason += "; another candidate did as well or better"
        await self.session.decide(
            candidate.policy,
            "accepted" if is_accepted else "rejected",
            parent=candidate.parent,
            reason=reason,
            idea=candidate.idea,
            site=candidate.site.id if candidate.site else None,
            operator=candidate.operator,
            edits=self.ledger.edits(candidate),
            gain=verdict.gain,
            round=turn.index + 1,
        )

    def _log(self, turn: Turn, asked: Asked, accepted: Verdict | None, search: Search) -> None:
        left, mean = self.session.budget.calls_left, search.board.mean(search.incumbent)
        number = len(asked.candidates)
        counted = f"{number} candidate{'' if number == 1 else 's'}"
        counted += f", {asked.num_refused} refused" if asked.num_refused else ""
        counted += f", {len(asked.failures)} lost to the optimiser model" if asked.failures else ""
        outcome = f"accepted {accepted.effect}: {accepted.candidate.idea}" if accepted else "none accepted"
        score = "not judged" if mean is None else f"{mean:.3f}"
        spent = "" if math.isinf(left) else f", {left:.0f} calls left"
        numbers = {"candidates": float(len(asked.candidates)), "refused": float(asked.num_refused)}
        numbers |= {} if mean is None else {"incumbent": mean}
        text = f"apo round {turn.index + 1}: {counted}; {outcome}; incumbent {score}{spent}"
        self.session.log(text, iteration=turn.index + 1, **numbers)
