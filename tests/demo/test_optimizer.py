"""As an optimiser the model knows the request and nothing else, heeds its limits, and avoids what failed."""

from __future__ import annotations

import random

import pytest
from tests.demo.world import Run, added, ask, proposed, reflection

from agentlightning.data.template import candidate_problems
from agentlightning.demo.model.reader import read
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Request

TEMPLATE = "You sort notes for ⟦name⟧. Categories: red, green, blue, violet. Today is ⟦date_1⟧."
WRONG = [
    Run(ticket, ['model → "red"'], "red", "violet")
    for ticket in ("The zither is out of tune.", "My zither was rained upon.", "Can a zither be mended?")
]
RIGHT = [
    Run("The kettle is hot.", ['model → "red"'], "red", "red"),
    Run("Grass.", ['model → "green"'], "green", "green"),
]


def test_the_word_behind_the_failures_is_found_and_its_answer_with_it() -> None:
    found = [rule for seed in range(8) for rule in read(proposed(ask(reflection(TEMPLATE, WRONG + RIGHT), seed))).rules]
    assert sum(rule.label == "violet" and "zith" in rule.key for rule in found) >= 4


def test_two_seeds_word_it_differently_and_one_seed_always_the_same() -> None:
    text = reflection(TEMPLATE, WRONG + RIGHT)
    assert len({ask(text, seed) for seed in range(8)}) >= 4
    assert ask(text, 3) == ask(text, 3)


def test_a_tool_result_that_the_steps_show_becomes_a_condition() -> None:
    step = 'tool find_note → {"state": "sealed"}'
    runs = [run._replace(steps=[step]) for run in WRONG]
    passed = [Run("The zither arrived.", ['tool find_note → {"state": "open"}'], "red", "red"), *RIGHT]
    keys = [rule.key for s in range(12) for rule in read(proposed(ask(reflection(TEMPLATE, runs + passed), s))).rules]
    assert any("fact sealed" in key and key.endswith("violet") for key in keys)


def test_a_tool_never_used_while_inputs_carry_numbers_is_suggested() -> None:
    runs = [run._replace(ticket=f"{run.ticket} (X-{1000 + i})") for i, run in enumerate(WRONG)]
    lines = [line for s in range(10) for line in added(TEMPLATE, proposed(ask(reflection(TEMPLATE, runs), s)))]
    assert any("lookup_order" in line for line in lines)


def test_sentences_where_one_word_was_wanted_lead_to_advice_about_the_form() -> None:
    runs = [Run(f"Note {word}", [], "I think this belongs to red.", "red") for word in ("one", "two", "three")]
    assert read(proposed(ask(reflection(TEMPLATE, runs)))).wants_label_only


def test_a_rejected_idea_is_not_proposed_again() -> None:
    rejected = ['If the note mentions "zither", answer violet. (-0.10 on 8 tasks)']
    for seed in range(10):
        new = proposed(ask(reflection(TEMPLATE, WRONG + RIGHT, rejected), seed))
        assert all(rule.key != "words zither > violet" for rule in read(new).rules), new


def test_an_idea_the_focus_hands_over_is_written_into_the_text() -> None:
    focus = 'Fold one more idea into the text; by itself it scored better: If the note mentions "oboe", answer blue.'
    assert added(TEMPLATE, proposed(ask(reflection(TEMPLATE, WRONG, focus=focus)))) == [
        'If the note mentions "oboe", answer blue.'
    ]


def test_a_rule_the_runs_contradict_is_dropped_or_narrowed() -> None:
    misled = TEMPLATE + '\nIf the note mentions "zither", answer red.'
    gone = [misled.splitlines()[-1] not in proposed(ask(reflection(misled, WRONG), seed)) for seed in range(10)]
    assert sum(gone) >= 5


@pytest.mark.parametrize("seed", range(6))
def test_slots_and_the_cap_are_kept(seed: int) -> None:
    text = reflection(TEMPLATE, random.Random(seed).sample(WRONG + RIGHT, 4), focus="Make it shorter.")
    for cap in (len(TEMPLATE), len(TEMPLATE) + 30, 400):
        new = proposed(ask(text.replace('max_characters="2000"', f'max_characters="{cap}"'), seed))
        assert candidate_problems(TEMPLATE, new, max_length=cap) == []


def test_too_few_tokens_cut_the_proposal_and_say_so() -> None:
    request = Request([{"role": "user", "content": reflection(TEMPLATE, WRONG)}], seed=0, max_tokens=12)
    cut = answer(request)
    assert cut.finish_reason == "length"
    assert cut.text and "</instruction>" not in cut.text
    assert ask(reflection(TEMPLATE, WRONG)).startswith(cut.text)


def test_missing_sections_and_other_attributes_are_tolerated() -> None:
    bare = (
        f"<instruction agent='x'>{TEMPLATE}</instruction><runs><run score='0'><input>zither</input><output>red</output>"
    )
    bare += "<reason>expected 'violet', got 'red'</reason></run></runs>"
    assert any("zither" in proposed(ask(bare, seed)) for seed in range(6))
    assert TEMPLATE in ask(f'<instruction kind="system">{TEMPLATE}</instruction>')


def test_of_several_sites_one_is_changed_and_all_are_given_back_under_their_names() -> None:
    first, second = (f'<instruction site="{name}" kind="system">\n{TEMPLATE}\n</instruction>' for name in ("a", "b"))
    text = reflection(TEMPLATE, WRONG)
    replies = [
        ask(text.replace(text[text.index("<instruction ") : text.index("<tools>")], f"{first}\n{second}\n"), s)
        for s in range(4)
    ]
    for reply in replies:
        assert '<instruction site="a" kind="system">' in reply and '<instruction site="b" kind="system">' in reply
        assert reply.count(TEMPLATE) == 2


def test_free_text_is_improved_from_the_reasons_alone() -> None:
    run = Run("什么是强化学习？", [], "Reinforcement learning is …", "")
    text = reflection("(there is no instruction yet)", [run]).replace(
        "expected '', got", "it does not answer in the language of the question; got"
    )
    assert "Answer in the language of the question." in proposed(ask(text))
    assert "no instruction yet" not in proposed(ask(text))
