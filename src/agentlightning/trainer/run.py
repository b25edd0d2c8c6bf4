"""One training run from the first call to the last: preflight, baseline, stages, held-out test, files.

The order is the honesty: the reward source is fixed before anything is compared, stages pass on validation, and the
test tasks are touched once, at the end, by the original and every stage's winner together.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from agentlightning.adapters.wrap import WrappedAgent
from agentlightning.algorithms.base import BaseAlgorithm
from agentlightning.data.call import Message, Reply
from agentlightning.data.record import make_record
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.task import Split, Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.errors import AgentError, BudgetExhausted, DataError
from agentlightning.interception.sites import SiteReport, discover_sites
from agentlightning.interception.tools import Tape, ToolModes
from agentlightning.models.ledger import Ledger
from agentlightning.rewards.judge import Judge
from agentlightning.store.base import Store
from agentlightning.trainer import scoring
from agentlightning.trainer.budget import Budget, limits_from
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.config import Config
from agentlightning.trainer.evaluation import Claim, verdict
from agentlightning.trainer.observed import observed_calls
from agentlightning.trainer.own_models import OwnModels
from agentlightning.trainer.resolve import PlannedStage
from agentlightning.trainer.result import Cost, HistoryEntry, TaskOutcome, TrainingResult
from agentlightning.trainer.rollouts import SHARED_STAGE, Rollouts, agent_error, model_error
from agentlightning.trainer.runner import Runner, model_failure
from agentlightning.trainer.session import BlockingSession, RunSession
from agentlightning.trainer.tasks import TaskSplits

_NUM_PREFLIGHT = 2
_TEST_STAGE = "test"
ORIGINAL = Policy()


class Run:
    """The state of one run. Made by the Trainer, executed once, on the trainer's own loop."""

    def __init__(
        self,
        *,
        run_id: str,
        agent: WrappedAgent,
        config: Config,
        splits: TaskSplits,
        stages: Sequence[PlannedStage],
        reward: Any,
        store: Store,
        callbacks: Callbacks,
    ) -> None:
        self.run_id = run_id
        self.agent = agent
        self.config = config
        self.splits = splits
        self.stages = stages
        self.reward = reward
        self.store = store
        self.callbacks = callbacks
        self.notes: list[str] = []
        self.history: list[HistoryEntry] = []
        self.started_at = time.time()
        self.budget = Budget(limits_from(config.budget.model_dump()), Ledger())

    @property
    def validation(self) -> list[Task]:
        return self.splits.validation or []

    @property
    def test(self) -> list[Task]:
        return self.splits.test or []

    async def execute(self) -> TrainingResult:
        """Do it all. Raises the one error that stopped it; what was done until then is in the store."""
        settings = self.config.trainer
        models = {role: spec.spec() for role, spec in self.config.models if spec is not None}
        self.models = OwnModels(
            models, run_id=self.run_id, store=self.store, budget=self.budget, max_in_flight=settings.max_in_flight
        )
        self.runner = Runner(
            self.agent,
            run_id=self.run_id,
            store=self.store,
            budget=self.budget,
            max_in_flight=settings.max_in_flight,
            timeout_seconds=self.config.agent.timeout_seconds or settings.timeout_seconds,
            retries=settings.retries,
            tools=ToolModes(self.agent.tool_modes, Tape()),
        )
        self.rollouts = Rollouts(self.runner, self.store, self.callbacks)
        try:
            await self._announce()
            await self._preflight()
            report = await self._baseline()
            winners = await self._learn(report)
            result = await self._finish(report, winners)
        except BaseException as error:
            await self._record_run("failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.runner.close()
            await self.models.close()
        await self._record_run("finished", result=result.to_dict())
        return result

    # -- before anything is learned ------------------------------------------------------------------------------

    async def _announce(self) -> None:
        await self._record_run("running", config=self.config.to_dict(), agent=self.agent.agent_id)
        tasks = [*self.splits.train, *(self.validation), *self.test]
        await self.store.append([make_record("task", task.id, task, run=self.run_id) for task in tasks])
        self.callbacks.tell("on_run_start", self.run_id, self._plan())
        for note in self._warnings():
            self._note(note)

    def _plan(self) -> list[str]:
        splits, settings = self.splits, self.config.trainer
        if splits.is_cross_fitted:
            tasks = f"{len(splits.train)} tasks: too few to hold any out, so nothing can be proved on them"
        else:
            counts = (len(splits.train), len(self.validation), len(self.test))
            tasks = "{} training, {} validation, {} held-out test tasks".format(*counts)
        stages = " → ".join(stage.algorithm.name or stage.name for stage in self.stages)
        baseline = len(self.validation) + (0 if splits.is_cross_fitted else _NUM_PREFLIGHT)
        estimates = [self._estimate(stage.algorithm) for stage in self.stages]
        search = "unknown" if None in estimates else f"at most about {sum(e or 0 for e in estimates):,}"
        test = (1 + len(self.stages)) * len(self.test)
        return [
            f"agent {self.agent.agent_id} ({self.agent.adapter.name}), {tasks}",
            f"algorithm {stages}, {settings.max_epochs} epochs, {settings.max_in_flight} rollouts at a time",
            f"rollouts: baseline {baseline}, search {search}, held-out test {test}",
            *dict.fromkeys(f"our own calls: {self.models.describe(role)}" for role in ("optimizer", "judge")),
            f"budget: {self.budget.describe()}",
        ]

    def _estimate(self, algorithm: BaseAlgorithm[Any]) -> int | None:
        splits = self.splits
        return algorithm.estimate_rollouts(len(splits.train), len(self.validation), self.config.trainer.max_epochs)

    def _warnings(self) -> list[str]:
        writing = [name for name in self.agent.writing_tools() if name not in self.agent.tool_modes]
        if not writing:
            return []
        names = ", ".join(writing)
        return [
            f"these tools seem to change things outside the agent, and will be run for real in every rollout: {names}. "
            f"To prevent it: wrap_agent(…, tools={{{writing[0]!r}: 'stub'}}) (or 'record': once per arguments)."
        ]

    async def _preflight(self) -> None:
        """Two runs tell whether the agent works, which model it uses, and how this run will be judged."""
        self.callbacks.tell("on_stage_start", "preflight", "trying the agent on its first tasks")
        probe = self.splits.train[:_NUM_PREFLIGHT]
        groups = await self.rollouts.groups(probe, policy=ORIGINAL, split="train", stage=SHARED_STAGE)
        tried = [trajectory for group in groups for trajectory in group.trajectories]
        unreachable = [trajectory for trajectory in tried if model_failure(trajectory)]
        if len(unreachable) == len(tried):
            raise model_error(unreachable[0], len(unreachable))
        self.models.seen = self.runner.endpoint
        self.rollouts.source = self._reward_source(tried)
        await self.rollouts.judge_again(probe)
        self.callbacks.tell("on_note", f"rewards come from {self.rollouts.source.description}")
        if all(trajectory.output is None and trajectory.status == "succeeded" for trajectory in tried):
            self._note("the agent returned nothing (None) when tried; it should return its answer.")
        self._reserve_test()

    def _reward_source(self, tried: Sequence[Trajectory]) -> scoring.RewardSource:
        for stage in self.stages:
            if stage.reward is not None:
                return scoring.from_function(stage.reward, f"the reward function {stage.reward_name}")
        if self.reward is not None:
            name = getattr(self.reward, "__name__", type(self.reward).__name__)
            return scoring.from_function(self.reward, f"the reward function {name}")
        if any(scoring.emitted(trajectory) for trajectory in tried):
            return scoring.from_emitted()
        tasks = [*self.splits.train, *self.validation, *self.test]
        if any(task.expected is not None for task in tasks):
            return scoring.from_expected(tasks)
        if self.models.endpoint("judge") is None:
            raise scoring.refusal()
        return self._judge()

    def _judge(self) -> scoring.RewardSource:
        judge = Judge(self._ask_judge)
        return scoring.from_function(judge, f"a model that judges each answer: {self.models.describe('judge')}")

    async def _ask_judge(self, messages: list[Message]) -> Reply:
        key = scoring.question_key("judge", messages)
        return await self.models.complete(messages, role="judge", key=key, temperature=0.0)

    def _reserve_test(self) -> None:
        """Set aside the calls of the held-out test. A cap too small for all of its tasks shortens it, and says so."""
        test, left = self.test, self.budget.calls_left
        if not test or left == math.inf:
            return
        per_task = (1 + len(self.stages)) * self.budget.calls_per_rollout
        affordable = int(left / 2 / per_task)
        if affordable < len(test):
            self._note(f"the budget allows a held-out test on {affordable} of the {len(test)} test tasks.")
            self.splits = msgspec.structs.replace(self.splits, test=test[:affordable])
        self.budget.reserved_calls = math.ceil(per_task * len(self.test) * 1.05)

    async def _baseline(self) -> SiteReport:
        self.callbacks.tell("on_stage_start", "baseline", "measuring the original agent")
        session = self._session(SHARED_STAGE, ORIGINAL, [], None)
        try:
            evaluation = await session.evaluate(ORIGINAL)
        except BudgetExhausted as spent:
            self._note(f"the budget ended the run during the baseline: {spent}")
            return SiteReport([], [])
        if error := agent_error(self.rollouts.all):
            raise error
        if not evaluation.scores:
            errors = [trajectory.error for trajectory in self.rollouts.all if trajectory.error]
            why = errors[0] if errors else "the reward function returned None every time"
            raise DataError(f"no rollout of the baseline got a reward, so nothing can be learned. {why}")
        if evaluation.unjudged:
            self._note(
                f"{len(evaluation.unjudged)} of {len(self.validation)} validation tasks got no reward and "
                "are left out of every comparison."
            )
        return await self._sites()

    async def _sites(self) -> SiteReport:
        calls = list(observed_calls(self.rollouts.all))
        if not calls:
            raise AgentError(
                f"the agent made no model call in {len(self.rollouts.all)} rollouts, so there is nothing to improve. "
                "Does it answer from a cache, or call its model from another process? Calls are seen when they leave "
                "through httpx, requests or aiohttp."
            )
        report = discover_sites(calls)
        sites = [*report.sites, *(site for site, _ in report.unusable)]
        await self.store.append([make_record("site", site.id, site, run=self.run_id) for site in sites])
        for site, reason in report.unusable:
            self._note(f"prompt site {site.id} is left alone: {reason}")
        return report

    # -- learning ------------------------------------------------------------------------------------------------

    async def _learn(self, report: SiteReport) -> dict[str, Policy]:
        """Every stage in turn, each from what the last one found; the winners by policy id."""
        policy, winners = ORIGINAL, dict[str, Policy]()
        for stage in self.stages:
            self.callbacks.tell("on_stage_start", stage.name, f"{stage.algorithm.name or stage.name} is learning")
            found = await self._stage(stage, policy, report.sites)
            if found.id != policy.id:
                policy = winners[found.id] = found
        return winners

    async def _stage(self, stage: PlannedStage, start: Policy, sites: list[PromptSite]) -> Policy:
        session = self._session(stage.name, start, sites, stage.agents)
        try:
            self.runner.predict = _custom_predict(stage.algorithm)
            found = await _train(stage.algorithm, session)
            self._check_policy(found, stage)
        except BudgetExhausted as spent:
            self._note(f"stage {stage.name} was ended by the budget: {spent}")
            found = session.best()
        self.history += session.history
        return await self._gate(session, start, found)

    async def _gate(self, session: RunSession, start: Policy, found: Policy) -> Policy:
        """A stage that does not help on validation is not carried on."""
        if found.id == start.id:
            return start
        try:
            before, after = await session.evaluate(start), await session.evaluate(found)
        except BudgetExhausted:
            return session.best()
        shared = before.scores.keys() & after.scores.keys()
        gain = sum(after.scores[task] - before.scores[task] for task in shared)
        if shared and gain > 0:
            return found
        self._note(f"stage {session.stage} found nothing better on the validation tasks, so it is not carried on.")
        return start

    def _check_policy(self, found: Any, stage: PlannedStage) -> None:
        if not isinstance(found, Policy):
            raise AgentError(
                f"algorithm {stage.name}: train() must return a Policy (session.policy when nothing was learned), "
                f"not {type(found).__name__}."
            )

    def _session(self, stage: str, policy: Policy, sites: list[PromptSite], agents: list[str] | None) -> RunSession:
        names = agents or self.config.agent.target_agents or [self.agent.agent_id]
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
            budget=self.budget,
            store=self.store,
            callbacks=self.callbacks,
        )

    # -- the end -------------------------------------------------------------------------------------------------

    async def _finish(self, report: SiteReport, winners: dict[str, Policy]) -> TrainingResult:
        is_held_out = bool(self.test and winners)
        tasks = self.test if is_held_out else self.validation
        baseline, by_winner = await self._final_groups(tasks, winners, is_held_out)
        claim = verdict(
            _rewards(baseline), {id: _rewards(groups) for id, groups in by_winner.items()}, is_held_out=is_held_out
        )
        policy = winners.get(claim.policy_id, ORIGINAL)
        shown = by_winner.get(claim.best.policy_id if claim.best else "", baseline)
        notes = [*self.notes, *claim.notes, *self._closing_notes()]
        best = claim.best
        return TrainingResult(
            policy=policy,
            verdict=claim.verdict,
            baseline=best.baseline if best else _mean(baseline),
            final=_final_mean(claim, baseline),
            difference=best.difference if best else None,
            interval=(best.interval.low, best.interval.high) if best and best.interval else None,
            p_value=best.interval.p_value if best and best.interval else None,
            num_test_tasks=len(best.differences) if best and is_held_out else 0,
            cost=self._cost(),
            history=self.history,
            tasks=_outcomes(tasks, baseline, shown),
            sites=[*report.sites, *(site for site, _ in report.unusable)],
            notes=list(dict.fromkeys(notes)),
            run_id=self.run_id,
            agent_id=self.agent.agent_id,
            output_dir=str(self.config.path_to(self.config.trainer.output_dir)),
            reward_source=self.rollouts.source.description if self.rollouts.source else "",
            started_at=self.started_at,
        )

    async def _final_groups(
        self, tasks: list[Task], winners: dict[str, Policy], is_held_out: bool
    ) -> tuple[list[Group], dict[str, list[Group]]]:
        """The original and every winner on the same tasks. Without held-out tasks these are the validation rollouts."""
        self.budget.begin_final_test()
        split: Split = "test" if is_held_out else "train" if self.splits.is_cross_fitted else "validation"
        stage = _TEST_STAGE if is_held_out else self.stages[-1].name
        if is_held_out:
            self.callbacks.tell("on_stage_start", "test", f"measuring on {len(tasks)} tasks nobody has seen")
        try:
            policies = [ORIGINAL, *winners.values()]
            measured = await asyncio.gather(
                *(self.rollouts.groups(tasks, policy=p, split=split, stage=stage) for p in policies)
            )
        except BudgetExhausted as spent:
            self._note(f"the held-out test could not be finished: {spent}")
            return self._known_groups(tasks), {}
        return measured[0], dict(zip(winners, measured[1:], strict=True))

    def _known_groups(self, tasks: Sequence[Task]) -> list[Group]:
        """What is on record of the original on these tasks, without running it again."""
        known = {t.task: t for t in self.rollouts.all if t.policy_id == ORIGINAL.id}
        return [Group(task.id, [known[task.id]]) for task in tasks if task.id in known]

    def _closing_notes(self) -> list[str]:
        notes: list[str] = []
        missed = sum(bool(step.missed_sites) for t in self.rollouts.all for step in t.steps)
        if missed:
            notes.append(f"{missed} calls did not match the prompt they were optimised for and went out unchanged.")
        if self.runner.num_abandoned:
            notes.append(
                f"{self.runner.num_abandoned} rollouts hung past their time-out; their threads were left behind."
            )
        unjudged = sum(t.reward is None for t in self.rollouts.all)
        if unjudged:
            notes.append(f"{unjudged} of {len(self.rollouts.all)} rollouts have no reward and count for nothing.")
        if self.budget.ledger.snapshot().unpriced_calls:
            notes.append("some calls have no known price, so the cost in money is not complete.")
        return notes

    def _cost(self) -> Cost:
        cost = self.budget.ledger.snapshot()
        return Cost(
            calls=cost.calls,
            task_calls=cost.task_calls,
            optimizer_calls=cost.optimizer_calls,
            judge_calls=cost.judge_calls,
            input_tokens=cost.input_tokens,
            output_tokens=cost.output_tokens,
            usd=cost.usd,
            seconds=time.time() - self.started_at,
        )

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.callbacks.tell("on_note", text)

    async def _record_run(self, status: str, **body: Any) -> None:
        fields = {"status": status, "agent": self.agent.agent_id, "started_at": self.started_at, **body}
        await self.store.append([make_record("run", self.run_id, fields, run=self.run_id)])


async def _train(algorithm: BaseAlgorithm[Any], session: RunSession) -> Any:
    """Async on this loop; a plain `train` on a thread, with a session whose calls wait."""
    if inspect.iscoroutinefunction(algorithm.train):
        return await algorithm.train(session)
    blocking: Any = BlockingSession(session, asyncio.get_running_loop())
    result = await asyncio.to_thread(algorithm.train, blocking)
    return await result if inspect.isawaitable(result) else result


def _custom_predict(algorithm: BaseAlgorithm[Any]) -> Any:
    """The algorithm's own `predict`, or None where it is the default (applying the policy)."""
    is_default = type(algorithm).predict is BaseAlgorithm.predict
    return None if is_default else algorithm.predict


def _rewards(groups: Sequence[Group]) -> dict[str, list[float | None]]:
    return {group.task_id: [trajectory.reward for trajectory in group.trajectories] for group in groups}


def _mean(groups: Sequence[Group]) -> float | None:
    means = [group.mean for group in groups if group.mean is not None]
    return sum(means) / len(means) if means else None


def _final_mean(claim: Claim, baseline: Sequence[Group]) -> float | None:
    """Of what is handed back: the winner's, or the original's own."""
    if claim.best is None:
        return _mean(baseline)
    return claim.best.baseline if claim.verdict == "kept original" else claim.best.final


def _outcomes(tasks: Sequence[Task], baseline: Sequence[Group], final: Sequence[Group]) -> list[TaskOutcome]:
    before, after = ({group.task_id: group for group in groups} for groups in (baseline, final))
    return [_outcome(task, before[task.id], after[task.id]) for task in tasks if task.id in before and task.id in after]


def _outcome(task: Task, before: Group, after: Group) -> TaskOutcome:
    old, new = before.trajectories[0], after.trajectories[0]
    return TaskOutcome(
        task_id=task.id,
        split=old.split,
        input=task.input,
        expected=task.expected,
        baseline_reward=before.mean,
        final_reward=after.mean,
        baseline_output=old.output,
        final_output=new.output,
        baseline_reason=old.reason,
        final_reason=new.reason,
    )
