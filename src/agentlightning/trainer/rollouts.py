"""Rollouts that are asked for, run once, judged, stored and remembered.

The memory is what makes nothing paid twice: within a run, and on resume, when it is filled from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import msgspec

from agentlightning.data.record import make_record
from agentlightning.data.resource import Policy
from agentlightning.data.task import Split, Task
from agentlightning.data.trajectory import Group, Trajectory
from agentlightning.errors import AgentError, ModelError
from agentlightning.store.base import Store
from agentlightning.store.masked import Masks
from agentlightning.store.trajectories import rollout_record
from agentlightning.trainer.callbacks import Callbacks
from agentlightning.trainer.runner import RolloutPlan, Runner, model_failure
from agentlightning.trainer.scoring import NO_REWARD, RewardSource, scored

SHARED_STAGE = "baseline"
"""Rollouts of this stage (the original agent, before anything was learned) answer for every stage."""

MAX_MODEL_FAILURES_IN_A_ROW = 8
MAX_JUDGE_FAILURES_IN_A_ROW = 3

_Key = tuple[str, str, str, str, int]


class Rollouts:
    """All rollouts of one run. `source` is set once it is known how this run is judged.

    With `masks`, a rollout is judged as it was, and from then on everybody sees it masked.
    """

    def __init__(self, runner: Runner, store: Store, callbacks: Callbacks, *, masks: Masks | None = None) -> None:
        self.runner = runner
        self.source: RewardSource | None = None
        self.all: list[Trajectory] = []
        self.live: list[Trajectory] = []
        """What the agent did in real use before this run."""
        self._store = store
        self._callbacks = callbacks
        self._masks = masks
        self._unmasked: dict[str, Trajectory] = {}
        self._done: dict[_Key, asyncio.Future[Trajectory]] = {}
        self._recorded: dict[_Key, Trajectory] = {}
        self._failures_in_a_row = 0
        self._judge_failures_in_a_row = 0
        self._known_policies: set[str] = set()

    def remember(self, trajectories: Sequence[Trajectory]) -> None:
        """Rollouts of an earlier, interrupted part of this run: answered from here when they are asked for again."""
        self._recorded.update((_key_of(trajectory), trajectory) for trajectory in trajectories)

    async def settle(self, ids: Collection[str]) -> None:
        """Count those of the record that a stage which goes on from its checkpoint will not ask for again."""
        unasked = [key for key, trajectory in self._recorded.items() if trajectory.id in ids]
        await asyncio.gather(*filter(None, map(self._from_record, unasked)))

    def as_seen(self) -> list[Trajectory]:
        """All rollouts, those of the original agent as they were: prompt sites are found in what it really says."""
        return [self._unmasked.get(trajectory.id, trajectory) for trajectory in self.all]

    async def groups(
        self, tasks: Sequence[Task], *, policy: Policy, split: Split, stage: str, n: int = 1, draw: int = 0
    ) -> list[Group]:
        """`n` judged rollouts of each task. Waits for all that began, then raises what went wrong, if anything did."""
        await self._keep_policy(policy)
        draws = range(draw * n, draw * n + n)
        plans = [RolloutPlan(task, policy, split, stage, index) for task in tasks for index in draws]
        self._callbacks.tell("on_work", stage, sum(self._find(plan) is None for plan in plans))
        rollouts = [self._one(plan) for plan in plans]
        if rollouts:
            await asyncio.wait(set(rollouts))
        trajectories = [rollout.result() for rollout in rollouts]
        return [Group(task.id, trajectories[i * n : i * n + n]) for i, task in enumerate(tasks)]

    async def settled(self) -> None:
        """Wait for the rollouts that are under way, judged and stored."""
        await asyncio.gather(*(one for one in self._done.values() if not one.done()), return_exceptions=True)

    async def judge_again(self, tasks: Sequence[Task]) -> None:
        """Judge the rollouts made before the reward source was known."""
        by_id = {task.id: task for task in tasks}
        waiting, self.all = self.all, []
        for trajectory in waiting:
            done = await self._judged(by_id[trajectory.task], trajectory)
            future = asyncio.get_running_loop().create_future()
            future.set_result(done)
            self._done[trajectory.stage, trajectory.split, trajectory.policy_id, trajectory.task, trajectory.draw] = (
                future
            )

    def _one(self, plan: RolloutPlan) -> asyncio.Future[Trajectory]:
        """The rollout asked for, which may have been asked for before. One that came to nothing can be asked again."""
        known = self._find(plan) or self._replay(plan)
        if known is None:
            key = _key(plan, plan.stage)
            known = self._done[key] = asyncio.ensure_future(self._run(plan))
            known.add_done_callback(lambda done: self._forget_failure(key, done))
        return known

    def _forget_failure(self, key: _Key, done: asyncio.Future[Trajectory]) -> None:
        if (done.cancelled() or done.exception() is not None) and self._done.get(key) is done:
            del self._done[key]

    def _find(self, plan: RolloutPlan) -> asyncio.Future[Trajectory] | None:
        for stage in (plan.stage, SHARED_STAGE):
            if (known := self._done.get(_key(plan, stage))) is not None:
                return known
        return None

    def _replay(self, plan: RolloutPlan) -> asyncio.Future[Trajectory] | None:
        """The rollout on record from before an interruption, charged to the budget as it was then."""
        for stage in (plan.stage, SHARED_STAGE):
            if (known := self._from_record(_key(plan, stage))) is not None:
                return known
        return None

    def _from_record(self, key: _Key) -> asyncio.Future[Trajectory] | None:
        if (trajectory := self._recorded.pop(key, None)) is None:
            return None
        self.runner.charge(trajectory)
        known = self._done[key] = asyncio.ensure_future(self._again(trajectory))
        return known

    async def _again(self, trajectory: Trajectory) -> Trajectory:
        """One from the record; judged now, where nobody had come to that."""
        if trajectory.reward is None:
            task = Task(trajectory.task, trajectory.input, trajectory.expected, trajectory.metadata)
            is_ours = (trajectory.error or "").startswith(NO_REWARD)
            return await self._judged(task, msgspec.structs.replace(trajectory, error=None) if is_ours else trajectory)
        self.all.append(trajectory)
        self._callbacks.tell("on_rollout_end", trajectory)
        return trajectory

    async def _run(self, plan: RolloutPlan) -> Trajectory:
        self._callbacks.tell("on_rollout_start", plan.stage, plan.task.id, plan.policy.id)
        trajectory = await self.runner.run(plan)
        self._watch_endpoint(trajectory)
        judged = await self._judged(plan.task, trajectory)
        self.runner.surroundings.check()
        return judged

    async def _judged(self, task: Task, trajectory: Trajectory) -> Trajectory:
        if self.source is not None:
            trajectory = self._masked(await self._scored(self.source, task, trajectory))
        self.all.append(trajectory)
        await self.runner.journal.keep(rollout_record(trajectory))
        if self.source is not None:
            self._callbacks.tell("on_rollout_end", trajectory)
        return trajectory

    def _masked(self, trajectory: Trajectory) -> Trajectory:
        if self._masks is None:
            return trajectory
        if trajectory.policy_id == Policy().id:
            self._unmasked[trajectory.id] = trajectory
        return self._masks.trajectory(trajectory)

    async def _scored(self, source: RewardSource, task: Task, trajectory: Trajectory) -> Trajectory:
        """A judge that now and then gives no score leaves a rollout unjudged; one that never does ends the run."""
        try:
            trajectory = await scored(source, task, trajectory)
        except ModelError as error:
            self._judge_failures_in_a_row += 1
            if self._judge_failures_in_a_row >= MAX_JUDGE_FAILURES_IN_A_ROW:
                raise
            return msgspec.structs.replace(trajectory, error=f"{NO_REWARD} {error}")
        self._judge_failures_in_a_row = 0
        return trajectory

    async def _keep_policy(self, policy: Policy) -> None:
        """A rollout names its policy by id; the policy itself must be on record before."""
        if policy.id not in self._known_policies:
            self._known_policies.add(policy.id)
            await self._store.append([make_record("policy", policy.id, policy, run=self.runner.run_id)])

    def _watch_endpoint(self, trajectory: Trajectory) -> None:
        """A model that cannot be reached any more ends the run, instead of burning it down task by task."""
        step = model_failure(trajectory)
        if step is None:
            self._failures_in_a_row = 0
            return
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_MODEL_FAILURES_IN_A_ROW:
            raise model_error(trajectory, self._failures_in_a_row)


def model_error(trajectory: Trajectory, times: int) -> ModelError:
    """One message for an agent whose model cannot be used: what, where, what to do."""
    step = model_failure(trajectory)
    assert step is not None
    status, where = step.status, step.endpoint or "its model's endpoint"
    if status in (401, 403):
        remedy = "The key was refused: check the key the agent reads (OPENAI_API_KEY, …) and what it may do."
    elif status == 404:
        remedy = "Nothing is there: check the base URL and the model's name."
    elif status == 429:
        remedy = "The rate limit or quota is used up: lower max_in_flight, or wait, then resume."
    elif status is None:
        remedy = "Start the server, or check the base URL the agent reads (OPENAI_BASE_URL, …)."
    elif status < 400:
        remedy = "Is this an endpoint of the API the agent's SDK speaks?"
    else:
        remedy = "The provider has a problem; what was done so far is kept, resume later."
    said = (step.error or "no answer").rstrip(". ")
    return ModelError(f"the agent's model calls to {where} failed {times} times in a row: {said}. {remedy}")


def agent_error(trajectories: Sequence[Trajectory]) -> AgentError | None:
    """The message for an agent that fails on every task there was, or None."""
    failed = [trajectory for trajectory in trajectories if trajectory.status in ("failed", "timeout")]
    if not failed or len(failed) < len(trajectories):
        return None
    shown, said = failed[0], (failed[0].error or "it said nothing").rstrip(". ")
    if shown.status == "timeout":
        remedy = (
            "If it needs longer, raise trainer.timeout_seconds; a hung agent shows its last call in the trajectory."
        )
    else:
        remedy = "Run it by itself on this input first; it must work before it can get better."
    return AgentError(
        f"the agent failed on all {len(failed)} tasks it was tried on. "
        f"On task {shown.task} ({str(shown.input)[:60]!r}): {said}. {remedy}"
    )


def _key(plan: RolloutPlan, stage: str) -> _Key:
    return (stage, plan.split, plan.policy.id, plan.task.id, plan.draw)


def _key_of(trajectory: Trajectory) -> _Key:
    return (trajectory.stage, trajectory.split, trajectory.policy_id, trajectory.task, trajectory.draw)
