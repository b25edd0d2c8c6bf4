"""The one error of a check: which promise is broken, by what, and what to do about it."""

from __future__ import annotations


class ContractBroken(AssertionError):
    """A plugin does not keep a promise that the rest of Agent Lightning relies on."""


def expect(is_kept: object, promise: str, found: str) -> None:
    """Raise ContractBroken, with the promise and what was found instead, unless it is kept."""
    if not is_kept:
        raise ContractBroken(f"{promise}\n    Found: {found}")
