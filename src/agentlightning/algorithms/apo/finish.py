"""Tests on the best policy, no model asked: leave out lines that are not needed, and try worked examples.

A line is judged on tasks other than those it was drawn from: there even a rule about one customer's rug looks useful.
Both were also tried as candidates of every round, with and without a bandit that shares out the places, and cost more
rollouts than they gained (`benchmarks/apo`).
"""

from __future__ import annotations

from collections.abc import Container

from agentlightning.algorithms.apo.demos import DemoPool
from agentlightning.algorithms.apo.lines import Line, LineLedger, Pruner
from agentlightning.algorithms.apo.progress import Progress
from agentlightning.algorithms.apo.search import Candidate, Search, Turn
from agentlightning.data.task import Task

MAX_DEMO_TESTS, MAX_DELETIONS = 2, 16
MAX_JUDGES = 24


class Finish:
    """What is done when rounds bring nothing more, as far as the budget goes."""

    def __init__(self, search: Search, progress: Progress, ledger: LineLedger) -> None:
        self.search, self.progress, self.ledger = search, progress, ledger
        self._pruner = Pruner(search.session.sites, ledger)
        self._num_deletions = 0

    async def try_demos(self, pool: DemoPool, index: int) -> None:
        """Keep the first choice of examples that helps, where there is anything left to gain."""
        for _ in range(0 if self.progress.is_clean else MAX_DEMO_TESTS):
            found = pool.candidates(self.search.best, 1, judges=())
            judges = self._judges(pool.tasks_shown(found[0])) if found else []
            if not judges or await self._test(found[0], Turn(index, [], judges)) is not False:
                return

    async def delete_lines(self, index: int) -> list[Line]:
        """Leave out groups of lines, the least useful first; as good and shorter is better. Returns what went."""
        dropped: list[Line] = []
        while self._num_deletions < MAX_DELETIONS and (group := self._pruner.next_group(self.search.best)):
            best = self.search.best
            told = " / ".join(line.text for line in group)
            candidate = Candidate(self._pruner.drop(best, group), best, f"leave out: {told}", operator="delete")
            turn = Turn(index, [], self._judges(self.ledger.suggested_by(group)))
            if (was_dropped := await self._test(candidate, turn)) is None:
                break
            self._num_deletions += 1
            self._pruner.learn(group, was_dropped=was_dropped)
            dropped += group if was_dropped else []
        return dropped

    async def _test(self, candidate: Candidate, turn: Turn) -> bool | None:
        """Whether it was accepted; None when the budget does not reach."""
        if not await self.search.can_afford(turn):
            return None
        verdicts = await self.search.validate(await self.search.compare([candidate], turn))
        accepted = self.search.promote(verdicts)
        self.ledger.learn(verdicts, turn)
        await self.progress.note_test(turn, verdicts[0], is_accepted=accepted is not None)
        return accepted is not None

    def _judges(self, suggested: Container[str]) -> list[Task]:
        """Training tasks that did not suggest what is tested; those the incumbent was run on come first."""
        others = [task for task in self.search.session.training_tasks if task.id not in suggested]
        board, incumbent = self.search.board, self.search.incumbent
        return sorted(others, key=lambda task: not board.has_run(incumbent, task.id))[:MAX_JUDGES]
