"""Are two answers the same? Text by what it says, numbers by their value, JSON by its parts.

Two texts are the same when they agree after NFKC, letter case, runs of white space, surrounding quotes or asterisks and
final punctuation are evened out. Two numbers are the same when their values are: `42`, `42.0` and `4.2e1`; `1,234` and
`1234`. A currency sign may be missing on one side (`$42` is `42`) but not differ (`$42` is not `€42`). What is no plain
number is compared as text: digits after a leading zero (`007`), percentages. Whole numbers compare exactly, others to
nine digits, because 0.1 + 0.2 is not 0.3.
"""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal
from typing import Any, NamedTuple

_OPENING = " \"'`“”‘’«»*"
_CLOSING = _OPENING + ".!?,;:。！？，；："
_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<currency>[$€£¥]?)\s?(?P<digits>0|[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d*|(?=\.\d))"
    r"(?P<rest>(?:\.\d+)?(?:e[-+]?\d{1,3})?)\s?(?P<after>[€£¥]?)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\s*```[\w-]*\s*\n(.*)\n\s*```\s*", re.DOTALL)
_LETTER = r"[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
"""A character that words are made of where words are kept apart by spaces, so not Chinese, Japanese or Korean ones."""


class Number(NamedTuple):
    value: Decimal
    currency: str


def normalised(text: str) -> str:
    """What a text says, with what does not matter evened out; never empty for a text that is not blank."""
    even = " ".join(unicodedata.normalize("NFKC", text).replace("−", "-").casefold().split())
    return even.lstrip(_OPENING).rstrip(_CLOSING) or even


def as_number(value: Any) -> Number | None:
    """The number a value is, or a text consists of; None when it is no number (True is not one either)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        number = Decimal(str(value))
        return Number(number, "") if number.is_finite() else None
    if not isinstance(value, str):
        return None
    found = _NUMBER.fullmatch(normalised(value))
    if not found or (found["currency"] and found["after"]):
        return None
    digits = found["sign"] + (found["digits"].replace(",", "") or "0") + found["rest"]
    return Number(Decimal(digits), found["currency"] or found["after"])


def numbers_in(text: str) -> list[Number]:
    """The numbers that stand in a text, in order; parts of words, versions and dates are not among them."""
    pattern = rf"(?<![.,$€£¥/:-])(?<!{_LETTER})[-+]?[$€£¥]?[\d.,]*\d(?:e[-+]?\d+)?(?!{_LETTER})(?![/:-]|\.\d)"
    words = re.findall(pattern, text, re.IGNORECASE)
    return [number for word in words if (number := as_number(word)) is not None]


def stands_in(part: str, text: str) -> bool:
    """Does one text stand in another, as whole words, after both are evened out?"""
    pattern = rf"(?<!{_LETTER}){re.escape(normalised(part))}(?!{_LETTER})"
    return re.search(pattern, normalised(text)) is not None


def as_json(value: Any) -> Any:
    """The JSON value in a text, fenced or not; anything but text is taken as it is. ValueError when there is none."""
    if not isinstance(value, str):
        return value
    fenced = _FENCE.fullmatch(value)
    return json.loads(fenced.group(1) if fenced else value)


def difference(expected: Any, actual: Any, path: str = "$") -> str | None:
    """Where and how `actual` first departs from `expected`; None when they are the same."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return _dict_difference(expected, actual, path)
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"at {path}: expected {len(expected)} items, got {len(actual)}"
        pairs = zip(expected, actual, strict=True)
        found = (difference(left, right, f"{path}[{i}]") for i, (left, right) in enumerate(pairs))
        return next((each for each in found if each), None)
    return None if same(expected, actual) else f"at {path}: expected {expected!r:.60}, got {actual!r:.60}"


def same(expected: Any, actual: Any) -> bool:
    """Equality of two values that are neither lists nor mappings. Text may stand for a number, true, false or null."""
    if expected is None or isinstance(expected, bool):
        return actual is expected or (isinstance(actual, str) and normalised(actual) in _SPELLINGS[expected])
    if type(expected) is str and expected == actual:
        return True
    left, right = as_number(expected), as_number(actual)
    if left and right:
        return _equal(left, right)
    if isinstance(expected, str) and isinstance(actual, bool):
        return same(actual, expected)
    return isinstance(expected, str) and isinstance(actual, str) and normalised(expected) == normalised(actual)


_SPELLINGS: dict[bool | None, tuple[str, ...]] = {True: ("true", "yes"), False: ("false", "no"), None: ("null", "none")}


def _equal(left: Number, right: Number) -> bool:
    if left.currency and right.currency and left.currency != right.currency:
        return False
    if left.value == right.value:
        return True
    if left.value == left.value.to_integral_value() and right.value == right.value.to_integral_value():
        return False
    return abs(left.value - right.value) <= Decimal("1e-9") * max(abs(left.value), abs(right.value))


def _dict_difference(expected: dict[Any, Any], actual: dict[Any, Any], path: str) -> str | None:
    for key, value in expected.items():
        if key not in actual:
            return f"at {path}: the key {key!r} is missing"
        if found := difference(value, actual[key], f"{path}.{key}"):
            return found
    extra = [key for key in actual if key not in expected]
    return f"at {path}: the key {extra[0]!r} should not be there" if extra else None
