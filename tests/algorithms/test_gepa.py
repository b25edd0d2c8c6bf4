"""The gepa package on our sites, in simulated worlds; skipped where it is not installed."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest
from benchmarks.apo.simulated import SimulatedSession
from benchmarks.apo.worlds import World

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.gepa import GEPA
from agentlightning.data.call import Message, Reply
from agentlightning.data.resource import Policy
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
