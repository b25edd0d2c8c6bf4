"""Instructions are read as plain English, whatever the labels, words and wording."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.demo.model.reader import MAX_CHARACTERS, MAX_SENTENCES, read
from agentlightning.demo.model.routing import read_rule
from agentlightning.demo.model.rules import Atom, Rule, Situation
from agentlightning.demo.model.sense import stems
from agentlightning.demo.model.writing import write_rule

LABELS = ("red", "green", "blue", "violet")
INTRO = "Sort each note into one of: red, green, blue, violet."


def label_of(instructions: str, text: str, *results: str) -> str | None:
    situation = Situation.of(text, results)
    return next((rule.label for rule in read(instructions).rules if rule.holds(situation)), None)


@pytest.mark.parametrize(
    "line",
    [
        'If the note mentions "piano lesson", answer red.',
        "If the note mentions a piano lesson, then it is red.",
        "Piano lessons go to red.",
        "Route anything about a piano lesson to red.",
        "Please send piano lesson notes to red, not blue.",
        '"piano lesson" → red',
        "piano lessons -> Red",
        "- red: piano lessons, harps",
        "red handles harps and piano lessons",
        "Use red for piano lessons and harps.",
        "Answer RED when the note is about piano lessons.",
        "Notes about piano lessons should always be red.",
        "2. Treat a piano lesson as red, even if it mentions a violin.",
    ],
)
def test_one_rule_is_understood_in_many_wordings(line: str) -> None:
    assert label_of(f"{INTRO}\n{line}", "When are the PIANO LESSONS next week?") == "red"
    assert label_of(f"{INTRO}\n{line}", "When does the bus leave?") is None


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Choose a category: alpha, beta or gamma.", ("alpha", "beta", "gamma")),
        ("The labels are 'hot', 'mild' and 'cold'.", ("hot", "mild", "cold")),
        ("Pick the class of the text (cat|dog|bird).", ("cat", "dog", "bird")),
        ("Labels:\n- urgent: pipes burst\n- later: the rest", ("urgent", "later")),
        ("You are a helpful assistant. Be kind.", ()),
    ],
)
def test_labels_are_read_from_the_text(text: str, labels: tuple[str, ...]) -> None:
    assert read(text).labels == labels


def test_conditions_join_by_and_or_not_and_unless() -> None:
    both = INTRO + '\nIf the note mentions "salt" and "pepper", answer red.'
    assert (label_of(both, "salt and pepper"), label_of(both, "only salt")) == ("red", None)
    either = INTRO + "\nNotes that mention salt, pepper or sugar go to blue."
    assert [label_of(either, word) for word in ("salt", "pepper", "sugar", "flour")] == ["blue", "blue", "blue", None]
    without = INTRO + '\nAnswer green if the note mentions "salt" unless it mentions "sea".'
    assert (label_of(without, "salt"), label_of(without, "sea salt")) == ("green", None)
    negated = INTRO + '\nIf the note mentions "salt" and does not mention "sea", answer green.'
    assert (label_of(negated, "salt"), label_of(negated, "sea salt")) == ("green", None)


def test_tool_results_and_feelings_are_conditions() -> None:
    stated = INTRO + "\nIf the state is open, answer red.\nAngry people who have written before are violet."
    assert label_of(stated, "a note", '{"state": "open"}') == "red"
    assert label_of(stated, "a note", '{"state": "shut"}') is None
    assert label_of(stated, "This is unacceptable, I already wrote last week.") == "violet"
    assert label_of(stated, "This is unacceptable.") is None


def test_stated_priority_beats_the_more_specific_which_beats_the_earlier() -> None:
    lines = "\nSalt is red.\nIf it mentions salt and pepper, answer blue.\nOtherwise answer green."
    assert label_of(INTRO + lines, "salt") == "red"
    assert label_of(INTRO + lines, "salt, pepper") == "blue"
    assert label_of(INTRO + lines, "flour") == "green"
    assert label_of(INTRO + lines + "\nBefore anything else: salt goes to violet.", "salt, pepper") == "violet"


@pytest.mark.parametrize(
    "line",
    [
        "Answer with the label only.",
        "Reply with just one word.",
        "Output nothing but the color.",
        "Respond without any explanation.",
        "Do not explain your answer.",
    ],
)
def test_a_wish_for_the_bare_answer_is_understood(line: str) -> None:
    assert read(f"{INTRO} {line}").wants_label_only
    assert not read(INTRO).wants_label_only


def test_advice_about_a_tool_is_understood() -> None:
    assert read(f"{INTRO} Call find_note first.", ("find_note",)).lookup is True
    assert read(f"{INTRO} Never call find_note.", ("find_note",)).lookup is False
    assert read(INTRO, ("find_note",)).lookup is None


def test_sentences_beyond_the_attention_limit_are_ignored() -> None:
    filler = "\n".join(f"Be kind, reason {number}." for number in range(MAX_SENTENCES))
    assert label_of(f"{INTRO}\nSalt is red.\n{filler}", "salt") == "red"
    assert label_of(f"{INTRO}\n{filler}\nSalt is red.", "salt") is None


def test_very_long_text_makes_rules_slip() -> None:
    names = [f"{a}{b}mo" for a in ("ka", "lo", "vi", "ne", "su") for b in ("ra", "ti", "bo", "fu")]
    rules = "\n".join(f'"{name}" → red.' for name in names)
    assert len(read(f"{INTRO}\n{rules}").rules) == 20
    assert len(read(f"{INTRO} {'x' * 2 * MAX_CHARACTERS}\n{rules}").rules) < 10


words = st.sampled_from(["salt", "night train", "piano", "window seat", "green", "delivered"])
atoms = st.one_of(
    words.map(lambda text: Atom("exact", stems(text), text)),
    st.sampled_from(["open", "in transit"]).map(lambda value: Atom("fact", (value,), "status")),
    st.sampled_from(["anger", "repetition", "urgency"]).map(lambda name: Atom("concept", (name,), name)),
)
conditions = st.lists(atoms, min_size=1, max_size=2, unique_by=lambda atom: atom.key)


@given(conditions, st.sampled_from(LABELS), st.floats(0, 0.999))
def test_a_rule_that_was_written_reads_back_as_itself(parts: list[Atom], label: str, draw: float) -> None:
    rule = Rule(tuple((atom,) for atom in parts), label, "")
    line = write_rule(rule, "note", draw)
    again = read_rule(line, LABELS)
    assert again is not None and again.key == rule.key, line
