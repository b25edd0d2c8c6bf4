"""Personal data found in text: e-mail and IP addresses, phone and card numbers, IBANs, each kind by its shape.

Checks that a kind has (Luhn for cards, mod 97 for IBANs, the value range of IP addresses) keep ordinary numbers out.
What has no recognisable shape, such as a name or a street, is not found.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

_NO_WORD_BEFORE, _NO_WORD_AFTER = r"(?<![\w.+-])", r"(?![\w])"

_EMAIL = re.compile(r"(?<![\w.%+-])[\w%+-]+(?:\.[\w%+-]+)*@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(rf"{_NO_WORD_BEFORE}[A-Z]{{2}}\d\d(?: ?[A-Z0-9]){{11,30}}{_NO_WORD_AFTER}")
_CARD = re.compile(rf"{_NO_WORD_BEFORE}[2-6](?:[ -]?\d){{12,18}}{_NO_WORD_AFTER}(?!\.\d)")
_IP4 = re.compile(rf"{_NO_WORD_BEFORE}\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!\.?\w)")
_IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7}(?:::)?(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w.+,/-])(?:"
    r"\+\d{1,3}(?:[ ().-]{0,2}\d){6,12}"  # +49 (30) 1234-5678
    r"|\(\d{2,5}\) ?\d{3,4}[ .-]?\d{3,4}"  # (555) 010-0199
    r"|\d{3}([-. ])\d{3}\1\d{4}"  # 555-010-0199
    r"|1[3-9]\d[ -]?\d{4}[ -]?\d{4}"  # 138 1234 5678
    r"|0\d([ .-])\d{2}(?:\2\d{2}){3}"  # 06 12 34 56 78
    r"|0\d{2,4}[ /-]\d{3,4}[ -]?\d{3,5}"  # 020 7946 0958, 030/1234567
    r")(?![\w-])(?!\.\d)"
)
_WORDS = re.compile(r" (?=[A-Z0-9])")


class Found(NamedTuple):
    """One piece of personal data: where it stands, and `value`, the same however it was spelled."""

    start: int
    end: int
    kind: str
    value: str


def find_personal(text: str) -> list[Found]:
    """Personal data in the text, in order, no two overlapping; where two kinds fit, the stricter one counts."""
    taken: list[Found] = []
    for search in (_ibans, _cards, _emails, _ips, _phones):
        taken += [item for item in search(text) if not any(item.start < t.end and t.start < item.end for t in taken)]
    return sorted(taken)


def _is_card(digits: str) -> bool:
    """Whether digits are a payment card's: 13 to 19, not all the same, the first a network's, the Luhn sum right."""
    if not 13 <= len(digits) <= 19 or digits[0] not in "23456" or len(set(digits)) < 2:
        return False
    doubled = (2 * int(d) for d in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(d - 9 if d > 9 else d for d in doubled)) % 10 == 0


def _emails(text: str) -> Iterator[Found]:
    if "@" in text:
        yield from (Found(*m.span(), "email", m[0].lower()) for m in _EMAIL.finditer(text))


def _cards(text: str) -> Iterator[Found]:
    for match in _CARD.finditer(text):
        digits = _digits(match[0])
        if _is_card(digits):
            yield Found(*match.span(), "card", digits)


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        # Capital words behind an IBAN look like more of it: the longest part that the check digits confirm is it.
        ends = [len(match[0]), *(word.start() for word in reversed(list(_WORDS.finditer(match[0]))))]
        for end in ends:
            value = match[0][:end].replace(" ", "")
            if len(value) >= 15 and _is_iban(value):
                yield Found(match.start(), match.start() + end, "iban", value)
                break


def _is_iban(value: str) -> bool:
    return int("".join(str(int(c, 36)) for c in value[4:] + value[:4])) % 97 == 1


def _ips(text: str) -> Iterator[Found]:
    for pattern in (_IP4, _IP6):
        for match in pattern.finditer(text):
            try:
                address = ipaddress.ip_address(match[0])
            except ValueError:
                continue
            if not (address.is_loopback or address.is_unspecified):  # they say nothing about anybody
                yield Found(*match.span(), "ip", str(address))


def _phones(text: str) -> Iterator[Found]:
    for match in _PHONE.finditer(text):
        yield Found(*match.span(), "phone", _digits(match[0]))


def _digits(text: str) -> str:
    return "".join(c for c in text if c.isdigit())
