"""When two answers are the same, and when they only look it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.rewards.compare import as_json, as_number, difference, normalised, numbers_in, same, stands_in


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("shipping", ' "Shipping." '),
        ("shipping", "**SHIPPING**"),
        ("a b", "a \n b"),
        ("ﬁne", "FINE"),
        ("straße", "STRASSE"),
        ("物流", "“物流”。"),
        ("?", "?"),
        (42, "42"),
        ("42", "42.0"),
        ("42", "$42"),
        ("$1,234.50", "1234.5"),
        ("42 €", "€42"),
        ("-5", "−5"),
        ("-$5", "-5"),
        (".5", "0.50"),
        ("1e3", 1000),
        (0.3, 0.1 + 0.2),
        (True, "Yes."),
        ("true", True),
        (None, None),
        ("５", "5"),
    ],
)
def test_these_are_the_same(left: Any, right: Any) -> None:
    assert same(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("shipping", "shipping cost"),
        ("?", "!"),
        ("$42", "€42"),
        ("42", "42%"),
        ("007", "7"),
        ("02134", "2134"),
        ("1,5", "15"),
        ("12,34", "1234"),
        (12345678901234, "12345678901235"),
        ("1.5", "1.5001"),
        (True, 1),
        (1, True),
        (0, False),
        (False, None),
        (0, ""),
        ("", None),
        ("nan", float("nan")),
        ("inf", "infinity"),
        ("yes", False),
    ],
)
def test_these_are_not(left: Any, right: Any) -> None:
    assert not same(left, right)


@given(st.text())
def test_a_text_is_the_same_as_itself_and_evening_out_is_final(text: str) -> None:
    assert same(text, text)
    assert bool(normalised(text)) == bool(text.split())


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_survives_being_written_down(number: float) -> None:
    assert same(number, str(number))
    assert same(str(number), number)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("it is 42.", [42]),
        ("between 3 and 1,000!", [3, 1000]),
        ("costs $7.50 (was $9)", [7.5, 9]),
        ("-3 degrees", [-3]),
        ("答案是42。", [42]),
        ("v1.2.3 of 2024-05-01, order A17, 3/4, 12:30", []),
        ("none", []),
    ],
)
def test_numbers_are_found_where_they_stand_alone(text: str, numbers: list[float]) -> None:
    assert [float(found.value) for found in numbers_in(text)] == numbers


def test_a_part_stands_in_a_text_only_as_whole_words() -> None:
    assert stands_in("cat", "The Cat sat.")
    assert not stands_in("cat", "concatenate")
    assert not stands_in("4", "42")
    assert stands_in("物流", "我认为是物流问题")


def test_json_is_read_with_or_without_a_fence_but_not_out_of_prose() -> None:
    assert as_json('```json\n{"a": 1}\n```') == {"a": 1}
    assert as_json(" [1] ") == [1]
    assert as_json({"a": 1}) == {"a": 1}
    with pytest.raises(ValueError):
        as_json('Here it is: {"a": 1}')


@pytest.mark.parametrize(
    ("actual", "where"),
    [
        ({"a": {"b": [1, "x"]}}, None),
        ({"a": {"b": ["1.0", "X."]}}, None),
        ({"a": {"b": [1, "y"]}}, "at $.a.b[1]: expected 'x', got 'y'"),
        ({"a": {"b": [1]}}, "at $.a.b: expected 2 items, got 1"),
        ({"a": {}}, "at $.a: the key 'b' is missing"),
        ({"a": {"b": [1, "x"]}, "c": 0}, "at $: the key 'c' should not be there"),
        ([], "at $: expected {'a': {'b': [1, 'x']}}, got []"),
    ],
)
def test_a_difference_says_where(actual: Any, where: str | None) -> None:
    assert difference({"a": {"b": [1, "x"]}}, actual) == where


def test_a_word_is_no_number() -> None:
    assert as_number("forty-two") is None
    assert as_number("$") is None
    assert as_number([]) is None
