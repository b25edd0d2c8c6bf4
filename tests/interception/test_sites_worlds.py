"""In prompts as people write them, discovery finds the author's words, and what it finds holds on unseen prompts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interception.prompt_worlds import WORLDS, call, prompts, share_found, sites_in

from agentlightning.data.resource import Policy

_NEW = "Above all: be kind. "


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_authors_words_are_found_and_steered_in_prompts_never_seen(name: str, seed: int) -> None:
    world = WORLDS[name]
    made = prompts(world, seed, 40)
    sites = sites_in(world, made[:24])
    assert len(sites) == world.num_sites
    policy = Policy()
    for site in sites:
        policy = policy.with_prompt(site, _NEW + site.template)
    assert share_found(made, sites) >= world.least_found, sites
    for asked, parts in made[24:]:
        text = "".join(parts)
        applied = policy.apply(call(world, asked, text))
        assert applied.call.messages[0]["content"] == _NEW + text


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(set(WORLDS) - {"one passage of ten thousand characters"})), st.integers(0, 10**6))
def test_a_site_that_is_called_usable_keeps_its_word(name: str, seed: int) -> None:
    world = WORLDS[name]
    made = prompts(world, seed, 60)
    sites = sites_in(world, made[:20])
    policy = Policy()
    for site in sites:
        policy = policy.with_prompt(site, _NEW + site.template)
    fresh = [(call(world, asked, "".join(parts)), "".join(parts)) for asked, parts in made[20:]]
    steered = [(policy.apply(one).call.messages[0]["content"], text) for one, text in fresh]
    assert all(new in (text, _NEW + text) for new, text in steered)
    missed = sum(new == text for new, text in steered)
    assert not sites or missed <= 0.15 * len(steered)  # coverage is promised at 95 %, and forty calls are a sample
