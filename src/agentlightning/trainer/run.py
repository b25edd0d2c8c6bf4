"""One training run from the first call to the last: preflight, baseline, stages, held-out test, files.

The order is the honesty: the reward source is fixed before anything is compared, stages pass on validation, and the
test tasks are touched once, at the end, by the original and every stage's winner together.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from agentlightning.data.masking import Masker
from agentlightning.data.record import make_record
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Split, Task
from agentlightning.data.trajectory import Group
from agentlightning.engine.base import LearnsElsewhere
from agentlightning.errors import AgentError, BudgetExhausted, ContextTooLong, DataError
from agentlightning.interception.endpoint import SeenEndpoint
from agentlightning.interception.sites import MIN_COVERAGE, SiteReport
from agentlightning.models.ledger import Ledger
from agentlightning.trainer import wording
from agentlightning.trainer.bench import ORIGINAL, Bench
from agentlightning.trainer.budget import Budget, Limits, spending, spent_from
from agentlightning.trainer.closing import closing_notes
from agentlightning.trainer.config_sections import CarryOn
from agentlightning.trainer.curves import curves_of
from agentlightning.trainer.learning import learn, predictor
from agentlightning.trainer.live import live_trajectories
from agentlightning.trainer.observed import find_sites, knowing, observed_calls
from agentlightning.trainer.outcome import Measured, conclude
from agentlightning.trainer.plan import NUM_PREFLIGHT, describe_plan, describe_rollout, most_rollouts
from agentlightning.trainer.resolve import PlannedStage, groups_of
from agentlightning.trainer.result import HistoryEntry, TrainingResult
from agentlightning.trainer.resumption import Before, StageBefore, check_unchanged, read_before
from agentlightning.trainer.rollouts import SHARED_STAGE, agent_error
from agentlightning.trainer.runner import RolloutPlan
from agentlightning.trainer.session import RunSession
from agentlightning.trainer.targets import asked_for, check_seen, targets
from agentlightning.trainer.tasks import TaskSplits
from agentlightning.trainer.weights import work_folder

NOT_MEASURED = "the budget ended before the original was measured"
_TEST_STAGE = "test"
_MARGIN = 1.1
"""For rollouts that take more calls than the average one did."""


class Run(Bench):
    """The state of one training run. Made by the Trainer, executed once, on the trainer's own loop."""

    def __init__(
        self,
        *,
        splits: TaskSplits,
        stages: Sequence[PlannedStage],
        write: Callable[[TrainingResult], Awaitable[None]],
        is_resumed: bool = False,
        **bench: Any,
    ) -> None:
        """`write` puts the result into files."""
        super().__init__(stages=stages, **bench)
        self._write = write
        self.splits = splits
        self.is_resumed = is_resumed
        self.history: list[HistoryEntry] = []
        self.untried = ""
        """Why no new version was measured, while that is so."""
        self.stages_before: dict[str, StageBefore] = {}
        """Where stages that keep checkpoints stood before an interruption."""

    @property
    def folder(self) -> Path:
        """Where the run's stages keep files of their own."""
        return work_folder(self.config) / self.run_id

    @property
    def validation(self) -> list[Task]:
        return self.splits.validation or []

    @property
    def test(self) -> list[Task]:
        return self.splits.test or []

    def held_out_tasks(self) -> set[str]:
        """Those of the final test."""
        return {task.id for task in self.test}

    async def execute(self) -> TrainingResult:
        """Do it all. Raises the one error that stopped it; what was done until then is in the store.

        A run is finished when its files are written: one that was killed while it wrote them can be resumed.
        """
        try:
            before = await self._before() if self.is_resumed else None
            await self._announce()
            if before is not None:
                self._remember(before)
            self._say_what_learns()
            self.rollouts.live = await live_trajectories(self.store, self.agent.agent_id)
            await self._preflight()
            report = await self._baseline()
            winners = {} if self.untried else await self._learn(report)
            result = await self._finish(report, winners)
            await self._write(result)
        except BaseException as error:
            status = await self.ended_by(error)
            await self.record_run(status, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            await self.close()
        await self.record_run("finished", result=result.to_dict())
        return result

    # -- before anything is learned ------------------------------------------------------------------------------

    @property
    def tasks(self) -> list[Task]:
        return [*self.splits.train, *self.validation, *self.test]

    async def _announce(self) -> None:
        plan = describe_plan(self.agent, self.config, self.splits, self.stages, self.models, self.budget)
        await self.announce("training", plan)
        await self.store.append([make_record("task", task.id, task, run=self.run_id) for task in self.tasks])

    def _say_what_learns(self) -> None:
        asked = self.config.trainer
        is_ours = self.weights is not None and not isinstance(self.weights.engine, LearnsElsewhere)
        if is_ours and (asked.distributed or asked.gpus > 1):
            self.note(
                f"trainer.distributed={asked.distributed}, gpus={asked.gpus}: in this version weights learn in one "
                "process, on one device."
            )

    async def _before(self) -> Before:
        """What this run did before it was interrupted. ConfigError where that is no answer to what is asked now."""
        now, tasks = self.config.to_dict(), self.tasks
        if self.masks:
            now, tasks = Masker().value(now), [self.masks.task(task) for task in tasks]
        await check_unchanged(self.store, self.run_id, now, tasks)
        groups = {stage.name: stage.group for stage in self.stages if stage.group}
        before = await read_before(self.store, self.run_id, groups, is_masked=self.masks is not None)
        self.seconds_before = before.seconds
        return before

    def _remember(self, before: Before) -> None:
        self.rollouts.remember(before.rollouts)
        self.models.remember(before.answers, look=self._look)
        self.stages_before = before.stages
        self.lost_calls = before.num_lost
        self.budget.started_at -= before.seconds
        self.callbacks.tell("on_note", before.describe())

    async def _look(self) -> SeenEndpoint | None:
        """Keys are not on record: where no rollout of this part has shown the agent's endpoint, one more shows it.

        It is paid, but not from the budget: with the caps it had, the run ends as it would have.
        """
        if self.runner.endpoint is None:
            aside = self.make_runner(Budget(Limits(), Ledger()))
            try:
                seen = await aside.run(RolloutPlan(self.splits.train[0], ORIGINAL, "train", "resume"))
            finally:
                aside.close()
            self.lost_calls += len(seen.model_steps)
            self.runner.endpoint = aside.endpoint
        return self.runner.endpoint

    async def _preflight(self) -> None:
        try:
            tried = await self.try_out(self.splits.train)
            await self.choose_reward(tried, self.tasks)
        except BudgetExhausted as spent:
            needed = wording.counted(NUM_PREFLIGHT + len(self.validation), "rollout")
            raise BudgetExhausted(
                f"the budget ended before the agent could be measured: {spent}. Trying and measuring it takes "
                f"{needed}; raise the cap."
            ) from spent
        if takes := describe_rollout(tried, self.splits, self.stages, self.config.trainer.max_epochs):
            self.callbacks.tell("on_note", takes)
        self._reserve_test()

    def _reserve_test(self, *, is_settled: bool = False) -> None:
        """Set aside what the held-out test takes, of every cap. When it is `settled` what that is, a cap too small for
        all of its tasks shortens the test, and says so."""
        self.budget.reserve(0)
        test, left = self.test, self.budget.calls_affordable
        if not test or left == math.inf:
            return
        per_task = (1 + len(self.stages)) * self.budget.calls_per_rollout
        affordable = min(len(test), int(left / 2 / per_task))
        if is_settled and affordable < len(test):
            some = f"allows a held-out test on {affordable} of the {len(test)} test tasks."
            self.note(f"the budget {some if affordable else 'leaves nothing for the held-out test.'}")
            self.splits = msgspec.structs.replace(self.splits, test=test[:affordable])
        self.budget.reserve(math.ceil(per_task * affordable * _MARGIN))

    async def _baseline(self) -> SiteReport:
        self.callbacks.tell("on_stage_start", "baseline", "measuring the original agent")
        session = self._session(SHARED_STAGE, ORIGINAL, [], None)
        try:
            evaluation = await session.evaluate(ORIGINAL)
        except BudgetExhausted as spent:
            self.untried = f"{NOT_MEASURED}: {spent}"
            self.note(self.untried)
            return SiteReport([], [])
        if error := agent_error(self.rollouts.all):
            raise error
        if not evaluation.scores:
            errors = [trajectory.error for trajectory in self.rollouts.all if trajectory.error]
            why = errors[0] if errors else "the reward function returned None every time"
            raise DataError(f"no rollout of the baseline got a reward, so nothing can be learned. {why}")
        if evaluation.unjudged:
            self.note(
                f"{len(evaluation.unjudged)} of {len(self.validation)} validation tasks got no reward and "
                "are left out of every comparison."
            )
        self._reserve_test(is_settled=True)
        return await self._sites()

    async def _sites(self) -> SiteReport:
        calls = list(observed_calls(self.rollouts.as_seen()))
        if not calls:
            raise AgentError(
                f"the agent made no model call in {len(self.rollouts.all)} rollouts, so there is nothing to improve. "
                "Does it answer from a cache, or call its model from another process? Calls are seen when they leave "
                "through httpx, requests or aiohttp."
            )
        asked = asked_for(self.config.agent.target_agents, self.stages)
        for silent in check_seen(asked, self.agent, {observed.call.agent for observed in calls}):
            self.note(silent)
        report = await self._sites_on_record()
        report = report or await find_sites(self.rollouts, self.splits.train, self.budget)
        sites = [*report.sites, *(site for site, _ in report.unusable)]
        await self.store.append([make_record("site", site.id, site, run=self.run_id) for site in sites])
        for site, reason in report.unusable:
            self.note(f"prompt site {site.id} is left alone: {reason}")
        return report

    async def _sites_on_record(self) -> SiteReport | None:
        """What a resumed run that masks found before: its old rollouts no longer say what the agent really says."""
        if not (self.masks and self.is_resumed):
            return None
        latest = {stored.record.id: stored.record async for stored in self.store.read("site", {"run": self.run_id})}
        found = [msgspec.convert(record.body, PromptSite) for record in latest.values()]
        usable = [site for site in found if (site.coverage or 0.0) >= MIN_COVERAGE]
        rest = [(site, "it was before the interruption.") for site in found if site not in usable]
        return SiteReport(usable, rest) if found else None

    # -- learning ------------------------------------------------------------------------------------------------

    async def _learn(self, report: SiteReport) -> dict[str, Policy]:
        """Every stage in turn, each from what the last one found; the winners by policy id."""
        policy, winners = ORIGINAL, dict[str, Policy]()
        self.untried = "no algorithm measured a new version"
        for stages in groups_of(self.stages):
            start = knowing(policy, report)
            found = await asyncio.gather(*(self._limited(stage, start, report.sites) for stage in stages))
            together = found[0] if len(stages) == 1 else await self._joined(stages, start, found)
            if together.id != policy.id:
                policy = winners[together.id] = together
        return winners

    async def _limited(self, stage: PlannedStage, start: Policy, sites: list[PromptSite]) -> Policy:
        """A stage within its own caps. What it cannot learn from does not cost what earlier stages found."""
        self.callbacks.tell("on_stage_start", stage.name, f"{stage.algorithm.name or stage.name} is learning")
        with spending(self.budget.part(stage.limits)):
            epochs, budget = self.config.trainer.max_epochs, spent_from(self.budget)
            if (most := most_rollouts(stage, self.splits, epochs, budget)) is not None:
                self.callbacks.tell("on_estimate", stage.name, most)
            try:
                return await self._stage(stage, start, sites)
            except (DataError, ContextTooLong) as error:
                if len(self.stages) == 1:
                    raise
                self.note(f"stage {stage.name} learned nothing: {error}")
                return start

    async def _joined(self, stages: Sequence[PlannedStage], start: Policy, found: Sequence[Policy]) -> Policy:
        """What stages that ran side by side found for their agents, together; measured together before it is kept."""
        joined = start
        for stage, policy in zip(stages, found, strict=True):
            joined = joined.taking(policy, stage.agents or [])
        names = ", ".join(stage.name for stage in stages)
        self.callbacks.tell("on_stage_start", stages[0].group, f"measuring {names} together")
        session = self._session(f"{stages[0].group}-together", start, [], None, group=stages[0].group)
        for policy in {policy.id: policy for policy in (start, *found)}.values():
            await session.evaluate(policy)
        return await self._gate(session, session.best(), joined)

    async def _stage(self, stage: PlannedStage, start: Policy, sites: list[PromptSite]) -> Policy:
        goes_on = stage.algorithm.resumes_from_checkpoint
        session = self._session(stage.name, start, sites, stage.agents, group=stage.group, goes_on=goes_on)
        try:
            if not stage.group:
                self.runner.predict = predictor(stage.algorithm)
            if session.before is not None:
                await self.rollouts.settle(session.before.rollouts)
            found = await learn(stage.algorithm, session)
            self._check_policy(found, stage)
            if self.weights is not None:
                await self.weights.keep(found)
        except BudgetExhausted as spent:
            self.note(f"stage {stage.name} was ended by the budget: {spent}")
            found = session.best()
        self.history += session.history
        self._note_if_unchanged(session, start, found)
        return await self._gate(session, start, found, stage.carry_on)

    def _note_if_unchanged(self, session: RunSession, start: Policy, found: Policy) -> None:
        has_measured = found.id != start.id or session.has_measured_another
        last_word = f"; its last word: {session.last_log}" if session.last_log else ""
        told = f"stage {session.stage} {'changed nothing' if has_measured else 'measured no new version'}{last_word}"
        if has_measured:
            self.untried = ""
        elif self.untried:
            self.untried = told
        if found.id == start.id and last_word:
            self.note(told)

    async def _gate(self, session: RunSession, start: Policy, found: Policy, carry_on: CarryOn = "if_better") -> Policy:
        """A stage that does not help on validation is not carried on, unless the settings say so."""
        if found.id == start.id or carry_on == "always":
            return found
        try:
            before, after = await session.evaluate(start), await session.evaluate(found)
        except BudgetExhausted:
            # No validation is left to pay for. What the algorithm has measured and accepted goes on to the test.
            accepted = {entry.policy_id for entry in session.history if entry.decision == "accepted"}
            return found if found.id in accepted else session.best()
        shared = before.scores.keys() & after.scores.keys()
        gain = sum(after.scores[task] - before.scores[task] for task in shared)
        if shared and (gain > 0 or (gain == 0 and carry_on == "if_not_worse")):
            return found
        self.note(f"stage {session.stage} found nothing better on the validation tasks, so it is not carried on.")
        return start

    def _check_policy(self, found: Any, stage: PlannedStage) -> None:
        if not isinstance(found, Policy):
            raise AgentError(
                f"algorithm {stage.name}: train() must return a Policy (session.policy when nothing was learned), "
                f"not {type(found).__name__}."
            )

    def _session(
        self,
        stage: str,
        policy: Policy,
        sites: list[PromptSite],
        agents: list[str] | None,
        *,
        group: str = "",
        goes_on: bool = False,
    ) -> RunSession:
        """`goes_on`: from the last checkpoint before an interruption, if there was one."""
        before = self.stages_before.get(stage)
        names = targets(agents or self.config.agent.target_agents, sites, self.agent)
        return RunSession(
            stage=stage,
            policy=policy,
            agents=names,
            sites=[site for site in sites if site.agent in names],
            training_tasks=self.splits.train,
            validation_tasks=self.validation,
            is_cross_fitted=self.splits.is_cross_fitted,
            max_epochs=self.config.trainer.max_epochs,
            seed=self.config.trainer.seed,
            rollouts=self.rollouts,
            models=self.models,
            budget=spent_from(self.budget),
            store=self.store,
            callbacks=self.callbacks,
            engine=self.weights.engine if self.weights is not None else None,
            folder=self.folder / stage,
            opinions=self.opinions,
            group=group,
            restored=before.state if before else None,
            before=before if goes_on else None,
        )

    # -- the end -------------------------------------------------------------------------------------------------

    async def _finish(self, report: SiteReport, winners: dict[str, Policy]) -> TrainingResult:
        measured = await self._measure(winners)
        if self.masks:
            measured = msgspec.structs.replace(measured, tasks=[self.masks.task(task) for task in measured.tasks])
        conclusion = conclude(measured, winners)
        notes = [
            *self.notes,
            *conclusion.pop("notes"),
            *closing_notes(self.rollouts.all, self.runner, self.budget.ledger),
        ]
        return TrainingResult(
            **conclusion,
            cost=self.cost(),
            history=self.history,
            curves=await curves_of(self.store, self.run_id),
            sites=[*report.sites, *(site for site, _ in report.unusable)],
            untried=self.untried,
            notes=[note for note in dict.fromkeys(notes) if note != self.untried],
            run_id=self.run_id,
            agent_id=self.agent.agent_id,
            output_dir=str(self.config.path_to(self.config.trainer.output_dir)),
            reward_source=self.rollouts.source.description if self.rollouts.source else "",
            started_at=self.started_at,
        )

    async def _measure(self, winners: dict[str, Policy]) -> Measured:
        """The original and every winner on the held-out tasks; where there are none (or no budget), on validation."""
        if (spent := self.budget.first_reason) and not self.untried:
            self.note(f"the search was ended by the budget: {spent}")
        self.budget.begin_final_test()
        if self.test and winners:
            self._shorten_test(1 + len(winners))
            self.callbacks.tell("on_stage_start", _TEST_STAGE, f"measuring on {len(self.test)} tasks nobody has seen")
            try:
                return await self._groups_of(self.test, winners, "test", _TEST_STAGE, is_held_out=True)
            except BudgetExhausted as spent:
                self.note(f"the held-out test could not be finished, so nothing is shown: {spent}")
        split: Split = "train" if self.splits.is_cross_fitted else "validation"
        try:
            return await self._groups_of(self.validation, winners, split, self.stages[-1].name, is_held_out=False)
        except BudgetExhausted:  # not even validation was finished: what there is of the original
            known = {t.task: t for t in self.rollouts.all if t.policy_id == ORIGINAL.id}
            groups = [Group(task.id, [known[task.id]]) for task in self.validation if task.id in known]
            return Measured(self.validation, groups, {}, False)

    def _shorten_test(self, num_policies: int) -> None:
        """A winner that makes more calls than the original did may need more than was set aside."""
        affordable = self.budget.calls_affordable / (num_policies * self.budget.calls_per_rollout * _MARGIN)
        if affordable < len(self.test):
            self.note(f"what is left allows a held-out test on {int(affordable)} of its {len(self.test)} tasks.")
            self.splits = msgspec.structs.replace(self.splits, test=self.test[: int(affordable)])

    async def _groups_of(
        self, tasks: list[Task], winners: dict[str, Policy], split: Split, stage: str, *, is_held_out: bool
    ) -> Measured:
        policies = [ORIGINAL, *winners.values()]
        groups = await asyncio.gather(
            *(self.rollouts.groups(tasks, policy=policy, split=split, stage=stage) for policy in policies)
        )
        return Measured(tasks, groups[0], dict(zip(winners, groups[1:], strict=True)), is_held_out)
