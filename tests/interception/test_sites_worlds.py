"""In prompts as people write them, discovery finds the author's words, and what it finds holds on unseen prompts."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.interception.prompt_worlds import WORLDS, Parts, Varying, World, question

from agentlightning.data.call import Call
from agentlightning.data.resource import Policy, PromptSite
from agentlightning.data.template import parse
from agentlightning.interception.sites import ObservedCall, discover_sites

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w+")
_NEW = "Above all: be kind. "


def prompts(world: World, seed: int, count: int) -> list[tuple[str, Parts]]:
    random = Random(seed)
    questions = [question(random) for _ in range(count)]
    return [(asked, world.make(random, asked)) for asked in questions]


def call(world: World, asked: str, text: str) -> Call:
    alone = [{"role": "user", "content": text}]
    messages = [{"role": "system", "content": text}, {"role": "user", "content": asked}] if world.is_system else alone
    return Call(agent="a", model="m", messages=messages)


def found(world: World, made: list[tuple[str, Parts]]) -> list[PromptSite]:
    calls = [ObservedCall(f"t{i}", asked, call(world, asked, "".join(parts))) for i, (asked, parts) in enumerate(made)]
    kind = "system" if world.is_system else "prefix"
    return [site for site in discover_sites(calls).sites if site.kind == kind]


def words(texts: list[str]) -> Counter[str]:
    return Counter(_WORD.findall(" ".join(texts)))


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_authors_words_are_found_and_steered_in_prompts_never_seen(name: str, seed: int) -> None:
    world = WORLDS[name]
    made = prompts(world, seed, 40)
    sites = found(world, made[:24])
    assert len(sites) == world.num_sites
    policy = Policy()
    for site in sites:
        policy = policy.with_prompt(site, _NEW + site.template)
    written = {"".join(part for part in parts if not isinstance(part, Varying)) for _, parts in made}
    wanted, there = words(list(written)), words([part for site in sites for part in parse(site.template)[0]])
    assert sum((wanted & there).values()) >= world.least_found * sum(wanted.values()), sites
    for asked, parts in made[24:]:
        text = "".join(parts)
        applied = policy.apply(call(world, asked, text))
        assert applied.call.messages[0]["content"] == _NEW + text


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(set(WORLDS) - {"one passage of ten thousand characters"})), st.integers(0, 10**6))
def test_a_site_that_is_called_usable_keeps_its_word(name: str, seed: int) -> None:
    world = WORLDS[name]
    made = prompts(world, seed, 60)
    sites = found(world, made[:20])
    policy = Policy()
    for site in sites:
        policy = policy.with_prompt(site, _NEW + site.template)
    fresh = [(call(world, asked, "".join(parts)), "".join(parts)) for asked, parts in made[20:]]
    steered = [(policy.apply(one).call.messages[0]["content"], text) for one, text in fresh]
    assert all(new in (text, _NEW + text) for new, text in steered)
    missed = sum(new == text for new, text in steered)
    assert not sites or missed <= 0.15 * len(steered)  # coverage is promised at 95 %, and forty calls are a sample
