"""Templates: matching, rendering, and what may replace them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.template import candidate_problems, constant_length, fit, marker, match, render, slot_names

TEMPLATE = "You help ⟦name⟧.\nToday is ⟦date⟧."
plain = st.text(st.characters(exclude_characters="⟦⟧", exclude_categories=["Cs"]), max_size=20)


@st.composite
def templates_and_values(draw: st.DrawFn) -> tuple[str, dict[str, str]]:
    constants = draw(st.lists(plain, min_size=1, max_size=5))
    names = [f"slot_{number}" for number in range(len(constants) - 1)]
    pieces = [constants[0]]
    for name, constant in zip(names, constants[1:], strict=True):
        pieces += [marker(name), constant]
    return "".join(pieces), {name: draw(plain) for name in names}


@given(templates_and_values())
def test_what_a_template_rendered_it_matches_and_renders_again(case: tuple[str, dict[str, str]]) -> None:
    template, values = case
    text = render(template, values)
    found = match(template, text)
    assert found is not None
    assert render(template, found) == text


@given(templates_and_values(), plain)
def test_a_text_that_matches_renders_again_up_to_white_space(case: tuple[str, dict[str, str]], text: str) -> None:
    template, _ = case
    if (found := match(template, text)) is not None:
        assert render(template, found).split() == text.split()


def test_matching_gives_each_slot_its_value() -> None:
    assert match(TEMPLATE, "You help Bob.\nToday is 2026-11-22.") == {"name": "Bob", "date": "2026-11-22"}


def test_a_text_that_lacks_a_constant_does_not_match() -> None:
    assert match(TEMPLATE, "You help Bob.\nNow it is 2026-11-22.") is None
    assert match(TEMPLATE, "You help Bob.\nToday is 2026-11-22!") is None


def test_overlapping_first_and_last_constants_do_not_match() -> None:
    assert match("aba⟦x⟧aba", "ababa") is None


def test_a_template_without_slots_matches_only_itself() -> None:
    assert match("Be brief.", "Be brief.") == {}
    assert match("Be brief.", "Be brief") is None
    assert match("", "") == {}


def test_other_white_space_between_constants_still_matches() -> None:
    assert match(TEMPLATE, "You  help Bob. Today is\n2026-11-22.") == {"name": "Bob", "date": "2026-11-22"}


def test_values_keep_their_own_white_space_when_the_constants_do_not_have_theirs() -> None:
    code = "def f():\n    return  1\n\n\tend"
    found = match(
        "Explain this code:\n\n⟦code⟧\n\nBriefly, for ⟦who⟧.", f"Explain  this code:\n{code}\nBriefly, for a\nchild."
    )
    assert found == {"code": code, "who": "a\nchild"}


def test_a_slot_that_stands_twice_must_hold_the_same_both_times() -> None:
    assert match("⟦a⟧ and ⟦a⟧", "x and x") == {"a": "x"}
    assert match("⟦a⟧ and ⟦a⟧", "x and y") is None


def test_markers_in_a_value_are_carried_over_as_they_are() -> None:
    values = match("Say ⟦what⟧ now", "Say ⟦other⟧ now")
    assert values == {"what": "⟦other⟧"}
    assert render("Now say ⟦what⟧", values) == "Now say ⟦other⟧"


def test_fit_gives_places_in_the_text() -> None:
    assert fit(("a ", " b ", ""), "a 1 b 2") == [(2, 3), (6, 7)]
    assert fit(("a ", " b"), "a 1") is None


def test_slots_are_named_in_order_and_constants_counted() -> None:
    assert slot_names(TEMPLATE) == ("name", "date")
    assert constant_length(TEMPLATE) == len("You help .\nToday is .")


def test_a_missing_value_cannot_be_rendered() -> None:
    with pytest.raises(KeyError, match="date"):
        render(TEMPLATE, {"name": "Bob"})


def test_a_candidate_with_every_slot_once_may_replace_the_template() -> None:
    assert candidate_problems(TEMPLATE, "It is ⟦date⟧. Help ⟦name⟧ kindly.") == []


@given(templates_and_values())
def test_a_slot_lost_doubled_or_unknown_is_refused(case: tuple[str, dict[str, str]]) -> None:
    template, values = case
    for name in values:
        lost = template.replace(marker(name), "")
        assert any(marker(name) in problem and "0 times" in problem for problem in candidate_problems(template, lost))
        doubled = template + marker(name)
        assert any(
            marker(name) in problem and "2 times" in problem for problem in candidate_problems(template, doubled)
        )
    assert any("no slot ⟦new⟧" in problem for problem in candidate_problems(template, template + "⟦new⟧"))


@pytest.mark.parametrize("text", ["Hello ⟦name⟧ ⟦date", "Hello ⟦name⟧ ⟧⟦date⟧", "⟦name⟧ ⟦date⟧ ⟦⟧"])
def test_a_broken_marker_is_refused(text: str) -> None:
    assert any("broken" in problem for problem in candidate_problems(TEMPLATE, text))


def test_a_candidate_over_the_cap_is_refused() -> None:
    assert candidate_problems("Be brief.", "x" * 11, max_length=10) == ["11 characters, over the cap of 10"]
    assert candidate_problems("Be brief.", "x" * 10, max_length=10) == []


def test_a_blank_candidate_is_refused_unless_the_template_was_blank() -> None:
    assert candidate_problems("Be brief.", " \n") == ["the text is empty"]
    assert candidate_problems("", "") == []


def test_matching_a_kilobyte_takes_microseconds() -> None:
    template = (
        "You are careful. " * 20 + "User ⟦a⟧ asks. " + "Follow the rules. " * 20 + "Today is ⟦b⟧. " + "End. " * 40
    )
    text = render(template, {"a": "Bob", "b": "2026-11-22"})
    started = time.thread_time()
    for _ in range(1000):
        assert match(template, text) is not None
    assert (time.thread_time() - started) / 1000 < 100e-6
