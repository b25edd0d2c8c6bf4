"""The state of a search: the incumbent new ideas are measured against, the best validated policy, and what is left.

Decisions fall only between rounds, on complete results, so they do not depend on which rollout ended first. How many
candidates a round has is put into the session's checkpoint: a resumed run has less budget left, but must ask the same
questions again to be answered from the record.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

import msgspec

from agentlightning.algorithms.apo.scoreboard import Comparison, Scoreboard, pooled_mean
from agentlightning.algorithms.apo.together import together
from agentlightning.algorithms.base import Session
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group

_TIE = 1e-9
_MAX_DRAWS = 3
_MIN_ROUNDS = 8
_FEW_VALIDATIONS = 12
"""A budget that pays for fewer validations than this is tight."""
_CLEAR_GAIN = 1.5
"""Summed over a round's tasks: more than one task's reward."""


class Candidate(msgspec.Struct, frozen=True):
    """A policy that differs from its parent by one idea."""

    policy: Policy
    parent: Policy
    idea: str
    site: PromptSite | None = None
    """Where, if at one site only."""
    operator: str = "reflect"
    """What made it: reflect, merge, demos, delete."""


class Turn(msgspec.Struct, frozen=True):
    """One round's tasks: where ideas come from, and where they are compared (the same, unless cross-fitted)."""

    index: int
    source: list[Task]
    judges: list[Task]


class Verdict(msgspec.Struct, frozen=True):
    """A candidate and how it did against its parent: on the round's tasks, then, if it got there, in validation."""

    candidate: Candidate
    is_shorter: bool
    training: Comparison
    validation: Comparison = Comparison(())

    @property
    def gain(self) -> float:
        return pooled_mean(self.validation, self.training)

    @property
    def is_promising(self) -> bool:
        """Better, or as good with fewer characters."""
        return self.gain > _TIE or (self.gain >= -_TIE and self.is_shorter and self.training.count > 0)

    @property
    def is_clear(self) -> bool:
        """A gain on the round's tasks that hardly is chance."""
        return sum(self.training.differences) >= _CLEAR_GAIN

    @property
    def effect(self) -> str:
        """What was measured, in words."""
        if not self.training.count:
            return "no task could be judged under both"
        return f"{self.training}" + (f", {self.validation} in validation" if self.validation.count else "")


class Search:
    """Runs, compares and validates policies; knows the incumbent and the best."""

    def __init__(self, session: Session, *, batch_size: int, accepts: Callable[[Comparison, Comparison], bool]) -> None:
        self.session = session
        self.incumbent = self.best = session.policy
        self.board = Scoreboard()
        self._groups: dict[str, dict[str, Group]] = {}
        self.is_cross_fitted = session.is_cross_fitted
        self._accepts = accepts
        num_tasks = len(session.training_tasks)
        largest = min(batch_size, num_tasks // 2) if self.is_cross_fitted else batch_size
        self._batch_size = _even(num_tasks, max(1, largest))
        self._max_judges = 2 * batch_size
        # So few tasks that one run of each says little: repeat them.
        self._draws = max(1, min(_MAX_DRAWS, batch_size // num_tasks)) if self.is_cross_fitted else 1
        self._is_waiting = False
        """The incumbent was promoted without a validation."""
        validation = session.budget.calls_per_rollout * len(session.validation_tasks)
        tight = not self.is_cross_fitted and session.budget.calls_left < _FEW_VALIDATIONS * validation
        known = session.restored or {}
        self._is_tight: bool = known.get("is_tight", tight)
        self._plans: list[int] = list(known.get("num_candidates", []))
        self._checks: list[bool] = list(known.get("checks", []))
        self._num_checks = 0

    async def start(self) -> None:
        """Measure the policy we begin with."""
        if not self.is_cross_fitted:
            await self._evaluate(self.incumbent)

    def turns(self) -> Iterator[Turn]:
        """Minibatches of equal size over all epochs.

        A candidate is judged on the very tasks its idea came from. Judging it on others was measured to be worse: rare
        causes then seldom show, and validation corrects the flattery.
        """
        index = 0
        for epoch in self.session.epochs():
            for batch in epoch.batches(self._batch_size):
                yield Turn(index, batch, self._judges(batch, index))
                index += 1

    async def plan(self, turn: Turn, wanted: int, num_drafts: int) -> int:
        """How many candidates, at most `wanted`, the budget can carry through to a validation.

        When it does not reach for that any more, one that must show a clear gain without; 0 for not even that.
        """
        if turn.index < len(self._plans):
            return self._plans[turn.index]
        per_rollout = self.session.budget.calls_per_rollout * self._draws
        fresh = {task.id for task in [*turn.source, *turn.judges] if not self.board.has_run(self.incumbent, task.id)}
        left = self.session.budget.calls_left - per_rollout * len(fresh)
        validation = 0 if self.is_cross_fitted else per_rollout * len(self.session.validation_tasks)
        candidate = num_drafts + per_rollout * len(turn.judges)
        affordable = (left - validation) / candidate
        # When calls are scarce, many small rounds find more than a few wide ones: each builds on the one before.
        thrifty = max(1, (left / _MIN_ROUNDS - validation) / candidate)
        planned = max(math.floor(min(wanted, affordable, thrifty)), int(left >= candidate))
        if planned:
            self._plans.append(planned)
            await self._checkpoint()
        return planned

    async def can_afford(self, turn: Turn) -> bool:
        """Whether one more candidate could be carried through to its validation, asking no model."""
        fresh = [task for task in turn.judges if not self.board.has_run(self.incumbent, task.id)]
        validation = 0 if self.is_cross_fitted else len(self.session.validation_tasks)
        return await self._affords((len(fresh) + len(turn.judges)) * self._draws + validation)

    async def _affords(self, num_rollouts: int) -> bool:
        """Whether the budget reaches; what was said once is said again after an interruption, when less is left."""
        self._num_checks += 1
        if self._num_checks > len(self._checks):
            left, per_rollout = self.session.budget.calls_left, self.session.budget.calls_per_rollout
            self._checks.append(left >= num_rollouts * per_rollout)
            await self._checkpoint()
        return self._checks[self._num_checks - 1]

    async def _checkpoint(self) -> None:
        state = {"num_candidates": self._plans, "is_tight": self._is_tight, "checks": self._checks}
        await self.session.checkpoint(state)

    async def run(self, policy: Policy, tasks: list[Task]) -> list[Group]:
        """Rollouts of training tasks, put on the scoreboard."""
        groups = await self.session.rollout(tasks, policy=policy, n=self._draws)
        self.board.add(policy, groups)
        self._groups.setdefault(policy.id, {}).update({group.task_id: group for group in groups})
        return groups

    async def runs(self, turn: Turn, *, at_most: int) -> list[Group]:
        """The incumbent on the round's tasks, and what it was run on before: free evidence, newest first.

        None of the latter where an idea must not be drawn from the tasks that will judge it.
        """
        groups = await self.run(self.incumbent, turn.source)
        now = {group.task_id for group in groups}
        known = reversed(self._groups[self.incumbent.id].items())
        earlier = [] if self.is_cross_fitted else [group for id, group in known if id not in now]
        return [*groups, *earlier[:at_most]]

    async def compare(self, candidates: Sequence[Candidate], turn: Turn) -> list[Verdict]:
        """Every candidate against the incumbent on the same tasks, best first.

        A race in two blocks: who is behind after the first is not run on the second, nor paid for.
        """
        ids = [task.id for task in turn.judges]
        racing = list(candidates)
        for block in self.blocks(turn.judges):
            policies = [self.incumbent, *(candidate.policy for candidate in racing)] if racing else []
            await together(self.run(policy, block) for policy in policies)
            racing = [c for c in racing if self.board.on_tasks(c.policy, self.incumbent, ids).mean >= -_TIE]
        verdicts = [
            Verdict(c, self._is_shorter(c.policy, self.incumbent), self.board.on_tasks(c.policy, self.incumbent, ids))
            for c in candidates
        ]
        return sorted(verdicts, key=lambda verdict: (-verdict.gain, not verdict.is_shorter))

    async def validate(self, verdicts: list[Verdict]) -> list[Verdict]:
        """The same verdicts, the first with validation evidence if it is promising.

        Cross-fitted runs need none: their judges were held out from the idea already. Where the budget is tight, clear
        gains may wait for it; the next candidate that is validated is then compared with the best validated policy.
        Where the budget does not reach for one, only a clear gain is taken over.
        """
        if self.is_cross_fitted or not verdicts or not verdicts[0].is_promising:
            return verdicts
        first, *rest = verdicts
        if self._is_tight and first.is_clear:
            return verdicts
        if not await self._affords(len(self.session.validation_tasks)):
            return verdicts
        policy, other = first.candidate.policy, self.best if self._is_waiting else self.incumbent
        await self._evaluate(policy)
        return [msgspec.structs.replace(first, validation=self.board.on_validation(policy, other)), *rest]

    async def settle(self) -> None:
        """Validate an incumbent that still waits for it; the best goes on from here.

        Where the budget does not reach, the incumbent is the best: what it waits with are clear gains.
        """
        if self._is_waiting:
            if await self._affords(len(self.session.validation_tasks)):
                await self._evaluate(self.incumbent)
            else:
                self.best = self.incumbent
        self.incumbent, self._is_waiting = self.best, False

    def promote(self, verdicts: Sequence[Verdict]) -> Verdict | None:
        """Make the first the incumbent, if it is the better bet or as good and shorter.

        Without a validation it must be a clear gain.
        """
        if not verdicts or not verdicts[0].is_promising:
            return None
        first = verdicts[0]
        if not (self.is_cross_fitted or first.is_clear or self.board.is_validated(first.candidate.policy)):
            return None
        if first.gain > _TIE and not self._accepts(first.validation, first.training):
            return None
        self.incumbent = first.candidate.policy
        self._is_waiting = not self.is_cross_fitted and not first.validation.count
        if self.is_cross_fitted:
            self.best = self.incumbent
        return first

    def blocks(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Two blocks, each with its share of what the incumbent fails and of what it passes: gains and losses show."""
        known = {task.id: self.board.reward(self.incumbent, task.id) for task in tasks}
        ordered = sorted(tasks, key=lambda task: (known[task.id] is None, known[task.id] or 0.0))
        return [ordered[::2], ordered[1::2]]

    async def _evaluate(self, policy: Policy) -> None:
        self.board.add_evaluation(policy, await self.session.evaluate(policy))
        lead = self.board.on_validation(policy, self.best)
        mean = pooled_mean(lead, self.board.on_shared_tasks(policy, self.best))
        if lead.count and (mean > _TIE or (mean >= -_TIE and self._is_shorter(policy, self.best))):
            self.best = policy

    def _judges(self, batch: list[Task], index: int) -> list[Task]:
        if not self.is_cross_fitted:
            return batch
        source = {task.id for task in batch}
        others = [task for task in self.session.training_tasks if task.id not in source]
        rng = random.Random(f"{self.session.seed}/judges/{index}")
        return rng.sample(others, min(len(others), self._max_judges))

    def _is_shorter(self, policy: Policy, other: Policy) -> bool:
        return self._length(policy) < self._length(other)

    def _length(self, policy: Policy) -> int:
        """Characters of all instructions and worked examples."""
        demos = [demo for shown in policy.demos.values() for demo in shown]
        texts = [
            *map(policy.text_at, self.session.sites),
            *(part for demo in demos for part in (demo.input, demo.output)),
        ]
        return sum(map(len, texts))


def _even(num_tasks: int, largest: int) -> int:
    """The batch size, at most `largest`, that leaves the last batch about as long as the others."""
    return math.ceil(num_tasks / math.ceil(num_tasks / largest))
