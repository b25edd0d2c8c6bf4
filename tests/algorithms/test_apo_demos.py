"""Worked examples: which runs become one, and which are shown together."""

from __future__ import annotations

import asyncio
import random

import msgspec
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import World

from agentlightning.algorithms.apo.demos import DemoPool, choose, demo_of
from agentlightning.algorithms.apo.evidence import classify
from agentlightning.data.resource import Policy
from agentlightning.data.trajectory import Trajectory


def passed(session: SimulatedSession) -> list[Trajectory]:
    groups = asyncio.run(session.rollout(session.training_tasks))
    return [run.trajectory for run in classify(groups) if not run.is_failed]


def test_an_example_is_what_the_agent_was_asked_and_what_it_answered() -> None:
    session = SimulatedSession(World(seed=1, floor=1.0, ceiling=1.0))
    run = passed(session)[0]
    demo = demo_of(run, "main")
    assert demo is not None and (demo.input, demo.output) == (run.input, run.output)
    assert demo_of(run, "somebody else") is None


def test_a_run_too_long_to_show_is_no_example() -> None:
    session = SimulatedSession(World(seed=1, floor=1.0, ceiling=1.0))
    run = passed(session)[0]
    reply = msgspec.structs.replace(run.steps[0].reply, message={"role": "assistant", "content": "x" * 5000})  # pyright: ignore[reportArgumentType]
    long = msgspec.structs.replace(run, steps=[msgspec.structs.replace(run.steps[0], reply=reply)])
    assert demo_of(long, "main") is None


def test_examples_have_the_best_reward_and_cover_different_inputs() -> None:
    session = SimulatedSession(World(seed=2, floor=1.0, ceiling=1.0))
    runs = passed(session)
    worst = msgspec.structs.replace(runs[0], reward=0.5, input="nothing like the others")
    chosen = choose([worst, *runs[1:]], "main", 4, random.Random(0))
    topics = {topic for demo in chosen for topic in session.world.mentioned(demo.input)}
    assert len(chosen) == 4 and len(topics) >= 4
    assert worst.input not in {demo.input for demo in chosen}


def test_no_example_is_taken_from_a_task_that_will_judge_it() -> None:
    session = SimulatedSession(World(seed=3, floor=1.0, ceiling=1.0))
    pool = DemoPool(session, None)
    pool.add(classify(asyncio.run(session.rollout(session.training_tasks))))
    judges = {task.id: str(task.input) for task in session.training_tasks[:30]}
    found = pool.candidates(Policy(), 3, judges)
    assert found
    assert all(demo.input not in judges.values() for c in found for demo in c.policy.demos["main"])


def test_examples_can_be_switched_off() -> None:
    session = SimulatedSession(World(seed=3, floor=1.0, ceiling=1.0))
    pool = DemoPool(session, 0)
    pool.add(classify(asyncio.run(session.rollout(session.training_tasks))))
    assert pool.candidates(Policy(), 3, set()) == []


def test_the_tasks_an_example_comes_from_are_known() -> None:
    session = SimulatedSession(World(seed=3, floor=1.0, ceiling=1.0))
    pool = DemoPool(session, 2)
    pool.add(classify(asyncio.run(session.rollout(session.training_tasks))))
    [found] = pool.candidates(Policy(), 1, ())
    shown = {str(demo.input) for demo in found.policy.demos["main"]}
    assert {str(task.input) for task in session.training_tasks if task.id in pool.tasks_shown(found)} == shown
