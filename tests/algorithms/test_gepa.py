"""The gepa package on our sites, in simulated worlds; skipped where it is not installed."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import msgspec
import pytest
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import World

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.base import Evaluation
from agentlightning.algorithms.gepa import GEPA
from agentlightning.data.call import Message, Reply
from agentlightning.data.resource import Policy
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Group, Reward, Trajectory
from agentlightning.errors import MissingExtra, ModelError

IS_INSTALLED = importlib.util.find_spec("gepa") is not None
needs_gepa = pytest.mark.skipif(not IS_INSTALLED, reason="the gepa package is not installed")


def search(session: SimulatedSession, **params: Any) -> Policy:
    return asyncio.run(GEPA(**params).train(session))


def test_gepa_is_known_by_its_name() -> None:
    assert ALGORITHMS.load("gepa") is GEPA


@pytest.mark.skipif(IS_INSTALLED, reason="the gepa package is installed")
def test_without_the_package_the_error_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match=r"agentlightning\[gepa\]"):
        search(SimulatedSession(World(seed=1)))


@needs_gepa
def test_an_informative_optimiser_leads_to_a_better_prompt() -> None:
    world = World(seed=1, skill=0.9, hint=0.9)
    session = SimulatedSession(world, calls=800)
    found = search(session)
    assert world.true_mean(found, session.sites) > world.true_mean(Policy(), session.sites) + 0.2
    assert session.budget.spent <= 800
    means = {id: entry.mean for id, entry in session.evaluations.items()}
    assert means[found.id] == max(means.values())


@needs_gepa
def test_two_agents_both_have_sites_to_improve() -> None:
    world = World(seed=16, agents=("triage", "writer"), skill=0.9, hint=0.9)
    session = SimulatedSession(world, calls=1500)
    assert set(search(session).prompts) == {"triage.system", "writer.system"}


@needs_gepa
def test_a_text_over_the_cap_is_refused_before_it_is_run() -> None:
    def wordy(messages: list[Message], draw: int) -> Reply:
        return Reply(message={"role": "assistant", "content": f"```\n{'words ' * 100}{draw}\n```"})

    session = SimulatedSession(World(seed=2), optimizer=wordy, epochs=1)
    assert search(session, max_prompt_length=200).is_original
    assert {entry.decision for entry in session.decisions} == {"refused"}
    assert {policy for policy, _, _ in session.rollouts} == {"original"}


@needs_gepa
def test_an_optimiser_that_fails_ends_the_search_with_its_reason() -> None:
    def down(messages: list[Message], draw: int) -> Reply:
        raise ModelError("the optimiser is down")

    session = SimulatedSession(World(seed=3), optimizer=down, epochs=1)
    assert search(session).is_original
    assert "the optimiser is down" in session.lines[-1]


class Scaled(SimulatedSession):
    """Rewards on another scale, and which tasks were asked for as rollouts rather than as an evaluation."""

    low, high = 0.0, 1.0

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.asked: set[str] = set()
        self._is_evaluating = False

    def act(self, policy: Policy, task: Task, draw: int) -> Trajectory:
        run = super().act(policy, task, draw)
        value = self.low + (self.high - self.low) * (run.reward or 0.0)
        return msgspec.structs.replace(run, reward=value, rewards=[Reward(value)])

    async def evaluate(self, policy: Policy) -> Evaluation:
        self._is_evaluating = True
        try:
            return await super().evaluate(policy)
        finally:
            self._is_evaluating = False

    async def rollout(self, tasks: list[Task], **how: Any) -> list[Group]:
        self.asked |= set() if self._is_evaluating else {task.id for task in tasks}
        return await super().rollout(tasks, **how)


class Negative(Scaled):
    low, high = -3.0, -1.0


class Ten(Scaled):
    low, high = 0.0, 10.0


@needs_gepa
@pytest.mark.parametrize("scale", [Scaled, Negative, Ten])
def test_candidates_of_two_sites_are_merged_whatever_the_scale_of_rewards(scale: type[Scaled]) -> None:
    world = World(seed=16, agents=("triage", "writer"), skill=0.9, hint=0.9)
    session = scale(world, calls=4000)
    asyncio.run(session.evaluate(Policy()))  # the baseline, which every run has measured by then
    found = search(session, use_merge=True)
    assert any("merge" in line.lower() for line in session.lines), session.lines
    assert world.true_mean(found, session.sites) > world.true_mean(Policy(), session.sites) + 0.2
    means = {id: entry.mean for id, entry in session.evaluations.items()}
    assert means[found.id] == max(means.values())


@needs_gepa
def test_validation_tasks_are_only_measured_never_run_beside() -> None:
    session = Scaled(World(seed=16, agents=("triage", "writer"), skill=0.9, hint=0.9), calls=4000)
    search(session, use_merge=True)
    assert session.asked and session.asked <= {task.id for task in session.training_tasks}


@needs_gepa
def test_a_refused_candidate_is_not_preferred_where_rewards_are_negative() -> None:
    def wordy(messages: list[Message], draw: int) -> Reply:
        return Reply(message={"role": "assistant", "content": f"```\n{'words ' * 100}{draw}\n```"})

    session = Negative(World(seed=2), optimizer=wordy, epochs=1)
    asyncio.run(session.evaluate(Policy()))
    assert search(session, max_prompt_length=200).is_original
    assert not any("Accepted" in line for line in session.lines)


@needs_gepa
def test_runs_with_a_reward_of_one_of_ten_are_not_taken_for_perfect() -> None:
    session = Ten(World(seed=2, floor=0.3, ceiling=0.5, is_graded=True), epochs=1)
    session.low = 1.0
    asyncio.run(session.evaluate(Policy()))
    search(session)
    assert not any("perfect" in line for line in session.lines)


@needs_gepa
def test_of_its_log_one_line_is_told_for_each_thing_that_happens() -> None:
    session = SimulatedSession(World(seed=1, skill=0.9, hint=0.9), calls=800)
    search(session)
    told = [line for line in session.lines if line.startswith("gepa: Iteration")]
    assert told and all("\n" not in line and len(line) <= 210 for line in told)
    assert not any("pareto" in line for line in told)
