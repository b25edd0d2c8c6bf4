"""The world can be learned, step by step, and only from runs that are what they say they are."""

from __future__ import annotations

import random
from statistics import mean

from tests.demo.world import TEMPLATE, Run, ask, improve, proposed, reflection, run, success

from agentlightning.data.template import candidate_problems
from agentlightning.demo.tasks import make_tasks

TASKS = make_tasks()
HELD_OUT = TASKS["validation"] + TASKS["test"]
BARE = TEMPLATE + "\nAnswer with the queue only."
"""Shuffling does not hide that sentences are the wrong form, so for that comparison the form is settled."""


def test_repeated_reflection_lifts_held_out_success_without_a_single_big_jump() -> None:
    curves = [improve(TASKS, rounds=14, seed=seed) for seed in range(6)]
    ends = [curve[-1] for curve in curves]
    assert 0.75 <= mean(ends) <= 0.95, ends
    assert all(curve[-1] >= curve[0] + 0.2 for curve in curves)
    assert mean(curve[1] for curve in curves) <= 0.55
    assert mean(curve[5] for curve in curves) < mean(ends)


def gain(runs: list[Run], seed: int) -> float:
    template = proposed(ask(reflection(BARE, runs), seed))
    return success(template, HELD_OUT) - success(BARE, HELD_OUT)


def shuffled(runs: list[Run], seed: int) -> list[Run]:
    answers = [one.expected for one in runs]
    random.Random(seed).shuffle(answers)
    return [one._replace(expected=expected) for one, expected in zip(runs, answers, strict=True)]


def test_proposals_from_real_runs_beat_proposals_from_runs_whose_answers_were_shuffled() -> None:
    runs = [run(BARE, task) for task in TASKS["train"]]
    batches = [random.Random(seed).sample(runs, 16) for seed in range(16)]
    real = [gain(batch, seed) for seed, batch in enumerate(batches)]
    fake = [gain(shuffled(batch, seed), seed) for seed, batch in enumerate(batches)]
    assert mean(real) > 0.04
    assert mean(fake) < 0.02
    assert mean(real) - mean(fake) > 0.05
    assert sum(r > f for r, f in zip(real, fake, strict=True)) >= 12


def test_some_proposals_are_wrong_and_all_keep_slots_and_length() -> None:
    runs = [run(TEMPLATE, task) for task in TASKS["train"]]
    gains: list[float] = []
    for seed in range(20):
        batch = random.Random(seed).sample(runs, 8)
        template = proposed(ask(reflection(TEMPLATE, batch), seed))
        assert candidate_problems(TEMPLATE, template, max_length=2000) == []
        gains.append(success(template, TASKS["validation"]) - success(TEMPLATE, TASKS["validation"]))
    assert any(gain <= 0 for gain in gains) and any(gain > 0.04 for gain in gains), gains
