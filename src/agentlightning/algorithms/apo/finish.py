"""The end of a search, no model asked: try worked examples with the best prompt, then leave out what is not needed.

A line is judged on tasks other than those it was drawn from: there even a rule about one customer's rug looks useful.
Both were also tried as candidates during the search, with and without a bandit that shares out the places, and cost
more rollouts than they gained (`benchmarks/apo`).
"""

from __future__ import annotations

from collections.abc import Container

from agentlightning.algorithms.apo.demos import DemoPool
from agentlightning.algorithms.apo.lines import LineLedger, Pruner
from agentlightning.algorithms.apo.progress import Progress
from agentlightning.algorithms.apo.proposer import Asked
from agentlightning.algorithms.apo.search import Candidate, Search, Turn
from agentlightning.data.task import Task

MAX_DEMO_TESTS, MAX_DELETIONS = 2, 16
MAX_JUDGES = 24


class Finish:
    """Tests on the best policy, as far as the budget goes."""

    def __init__(self, search: Search, progress: Progress, ledger: LineLedger, index: int) -> None:
        self.search, self.progress, self.ledger = search, progress, ledger
        self._index = index

    async def try_demos(self, pool: DemoPool) -> None:
        """Keep the first choice of examples that helps, where there is anything left to gain."""
        for _ in range(0 if self.progress.is_clean else MAX_DEMO_TESTS):
            judges = self._judges(set())
            found = pool.candidates(self.search.best, 1, {task.id for task in judges})
            if not found or await self._test(found[0], judges) is not False:
                return

    async def delete_lines(self) -> None:
        """Leave out groups of lines, the least useful first; as good and shorter is better."""
        pruner = Pruner(self.search.session.sites, self.ledger)
        for _ in range(MAX_DELETIONS):
            best = self.search.best
            if not (group := pruner.next_group(best)):
                return
            told = " / ".join(line.text for line in group)
            candidate = Candidate(pruner.drop(best, group), best, f"leave out: {told}", operator="delete")
            was_dropped = await self._test(candidate, self._judges(self.ledger.suggested_by(group)))
            if was_dropped is None:
                return
            pruner.learn(group, was_dropped=was_dropped)

    async def _test(self, candidate: Candidate, judges: list[Task]) -> bool | None:
        """Whether it was accepted; None when the budget does not reach."""
        turn = Turn(self._index, [], judges)
        if not self.search.can_afford(turn):
            return None
        self._index += 1
        verdicts = await self.search.validate(await self.search.compare([candidate], turn))
        accepted = self.search.promote(verdicts)
        self.ledger.learn(verdicts, turn)
        await self.progress.note_round(turn, Asked([candidate], 0, []), verdicts, accepted, self.search)
        return accepted is not None

    def _judges(self, suggested: Container[str]) -> list[Task]:
        """Training tasks that did not suggest what is tested; those the incumbent was run on come first."""
        others = [task for task in self.search.session.training_tasks if task.id not in suggested]
        board, incumbent = self.search.board, self.search.incumbent
        return sorted(others, key=lambda task: not board.has_run(incumbent, task.id))[:MAX_JUDGES]
