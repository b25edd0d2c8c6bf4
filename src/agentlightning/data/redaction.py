"""Secrets are taken out of text before it is kept: keys by their shape, credentials by the word before them.

What is not recognised stays; this is a net for accidents, not a vault.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

SECRET = "[secret]"

_VALUE_END = r"\s\"'\\,;}&"


def _sign_of(hint: str) -> str:
    return "_" if "_" in hint else "-" if "-" in hint else ""


_ASSIGNED_WORDS = (("api", "key"), ("access", "token"), ("client", "secret"), ("auth", "token"))


class _Rule(NamedTuple):
    hints: tuple[str, ...]
    """In lower case; text without any of them is not searched, which takes a thirtieth of the time."""
    pattern: re.Pattern[str]
    replacement: str


_KEY = _Rule(
    tuple("sk- k_live_ k_test_ akia asia aiza glpat- hf_ gsk_ r8_ eyj xoxa- xoxb- xoxe- xoxp- xoxr- xoxs-".split()),
    re.compile(
        r"(?<![A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{16,}"  # OpenAI, Anthropic and many that follow them
        r"|[sr]k_(?:live|test)_[A-Za-z0-9]{16,}"  # Stripe
        r"|(?:AKIA|ASIA)[0-9A-Z]{16}"  # AWS
        r"|AIza[A-Za-z0-9_-]{35}"  # Google
        r"|glpat-[A-Za-z0-9_-]{20,}"  # GitLab
        r"|xox[abeprs]-[A-Za-z0-9-]{10,}"  # Slack
        r"|(?:hf|gsk|r8)_[A-Za-z0-9]{30,}"  # Hugging Face, Groq, Replicate
        r"|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"  # JSON web tokens
    ),
    SECRET,
)
_GITHUB = _Rule(
    ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    re.compile(r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,})"),
    SECRET,
)
_AUTHORIZATION = _Rule(
    ("authorization",),
    re.compile(
        rf"(authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:bearer|basic|token|digest|negotiate)\s+)?[^{_VALUE_END}]+",
        re.IGNORECASE,
    ),
    rf"\1{SECRET}",
)
_BEARER = _Rule(
    ("bearer",),
    # A token has a digit or a sign within, or is long: "bearer instruments" is prose.
    re.compile(
        r"\b(bearer\s+)(?=[^\s\"']{0,64}(?:[0-9]|[._~+/=-][A-Za-z])|[A-Za-z]{20})[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE
    ),
    rf"\1{SECRET}",
)
_ASSIGNED = _Rule(
    tuple(f"{one}{sign}{two}" for one, two in _ASSIGNED_WORDS for sign in ("", "-", "_")),
    re.compile(
        rf"((?:{'|'.join(f'{one}[_-]?{two}' for one, two in _ASSIGNED_WORDS)})\\?[\"']?\s*[:=]\s*\\?[\"']?)"
        rf"(?=[^{_VALUE_END}]{{0,64}}[0-9])[^{_VALUE_END}]{{12,}}",
        re.IGNORECASE,
    ),
    rf"\1{SECRET}",
)
_RULES = (_KEY, _GITHUB, _AUTHORIZATION, _BEARER, _ASSIGNED)

_MIN_LENGTH = len("Bearer 12345678")
"""No rule fits a shorter text: not the name of a field, not a role."""
_HINTS = {sign: [hint for rule in _RULES for hint in rule.hints if _sign_of(hint) == sign] for sign in ("", "-", "_")}
"""By the sign in them: of the many, those whose sign a text lacks need not be looked for."""

_FIELDS = re.compile(
    r"(?:proxy-)?authorization|(?:x-)?api[_-]?key|(?:access|auth|refresh)[_-]?token|client[_-]?secret|password",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with `[secret]` in place of keys, Bearer tokens and authorization values. Idempotent."""
    if len(text) < _MIN_LENGTH:
        return text
    while _is_hinted_at(lower := text.lower()):
        # again: taking one secret out can bring two words together that name another; each round leaves less
        changed = text
        for rule in _RULES:
            if any(hint in lower for hint in rule.hints):
                changed = rule.pattern.sub(rule.replacement, changed)
        if changed == text:
            break
        text = changed
    return text


def _is_hinted_at(lower: str) -> bool:
    """Is there anything to look for? Nearly never; so this is what reading a text costs."""
    return any(hint in lower for sign, hints in _HINTS.items() if sign in lower for hint in hints)


@lru_cache(maxsize=4096)
def names_secret(field: str) -> bool:
    """Whether a field of that name (a header, an argument) holds a credential, whatever its value looks like."""
    return _FIELDS.fullmatch(field) is not None
