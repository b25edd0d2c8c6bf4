"""What a call costs, or None. A price we are not sure of is not guessed: the ledger counts such calls as unpriced.

List prices of the providers' own APIs for text, standard tier, as they stood on PRICES_AS_OF. A name is known when it
is in the table, alone or with the date of a snapshot behind it; anything else behind it may be another model.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agentlightning.data.call import Usage

PRICES_AS_OF = "2026-11-18"


class Price(NamedTuple):
    """USD per million tokens. Reasoning tokens are output tokens, as providers bill them."""

    input: float
    cached: float
    """Input tokens the provider read from its cache; never more than `input`."""
    output: float


class LongPrompt(NamedTuple):
    """Above `tokens` of input, the whole call costs this many times as much."""

    tokens: int
    input: float
    output: float


PRICES: dict[str, Price] = {
    # OpenAI
    "gpt-6.2-astra": Price(8, 0.4, 40),
    "gpt-6.2-sol": Price(2, 0.1, 10),
    "gpt-6.1-sol": Price(2, 0.1, 10),
    "gpt-6-astra": Price(10, 1, 50),
    "gpt-6-sol": Price(2, 0.2, 10),
    "gpt-6-luna": Price(0.1, 0.01, 0.5),
    "gpt-5.6-terra": Price(2, 0.2, 12),
    "gpt-5.6-luna": Price(0.2, 0.02, 1.2),
    "gpt-5.5": Price(5, 0.5, 30),
    "gpt-5.4": Price(2.5, 0.25, 15),
    "gpt-5.4-mini": Price(0.75, 0.075, 4.5),
    "gpt-5.4-nano": Price(0.2, 0.02, 1.25),
    "gpt-5.2": Price(1.75, 0.175, 14),
    "gpt-5.1": Price(1.25, 0.125, 10),
    "gpt-5": Price(1.25, 0.125, 10),
    "gpt-5-mini": Price(0.25, 0.025, 2),
    "gpt-5-nano": Price(0.05, 0.005, 0.4),
    "gpt-4.1": Price(2, 0.5, 8),
    "gpt-4.1-mini": Price(0.4, 0.1, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.025, 0.4),
    "gpt-4o": Price(2.5, 1.25, 10),
    "gpt-4o-2024-05-13": Price(5, 5, 15),
    "gpt-4o-mini": Price(0.15, 0.075, 0.6),
    "gpt-4-turbo": Price(10, 10, 30),
    "gpt-3.5-turbo": Price(0.5, 0.5, 1.5),
    "o4-mini": Price(1.1, 0.275, 4.4),
    "o3": Price(2, 0.5, 8),
    "o3-mini": Price(1.1, 0.55, 4.4),
    "o1": Price(15, 7.5, 60),
    # Anthropic
    "claude-opus-5-5": Price(4, 0.2, 20),
    "claude-opus-5": Price(5, 0.5, 25),
    "claude-opus-4-8": Price(5, 0.5, 25),
    "claude-opus-4-7": Price(5, 0.5, 25),
    "claude-opus-4-6": Price(5, 0.5, 25),
    "claude-opus-4-5": Price(5, 0.5, 25),
    "claude-opus-4-1": Price(15, 1.5, 75),
    "claude-sonnet-5-5": Price(2, 0.1, 10),
    "claude-sonnet-5": Price(2, 0.2, 10),
    "claude-sonnet-4-6": Price(3, 0.3, 15),
    "claude-sonnet-4-5": Price(3, 0.3, 15),
    "claude-haiku-5-5": Price(0.1, 0.01, 0.5),
    "claude-haiku-4-5": Price(1, 0.1, 5),
    "claude-3-5-haiku": Price(0.8, 0.08, 4),
    # Google
    "gemini-3.8-flash": Price(0.75, 0.075, 3.75),
    "gemini-3.7-flash": Price(0.75, 0.075, 3.75),
    "gemini-3.5-flash-lite": Price(0.3, 0.03, 2.5),
    "gemini-3.1-pro-preview": Price(2, 0.2, 12),
    "gemini-3.1-flash-lite": Price(0.25, 0.025, 1.5),
    "gemini-3-flash-preview": Price(0.5, 0.05, 3),
    "gemini-2.5-pro": Price(1.25, 0.125, 10),
    "gemini-2.5-flash": Price(0.3, 0.03, 2.5),
    "gemini-2.5-flash-lite": Price(0.1, 0.01, 0.4),
    # Mistral
    "mistral-large-4-0": Price(0.68, 0.07, 2.09),
    "mistral-large-2512": Price(0.5, 0.5, 1.5),
    "mistral-medium-3-5": Price(1.5, 1.5, 7.5),
    "mistral-small-latest": Price(0.1, 0.1, 0.3),
    "codestral-latest": Price(0.3, 0.3, 0.9),
    # DeepSeek, at peak hours; off-peak is half, so a sum is at most twice too high and never too low
    "deepseek-flash": Price(0.3, 0.006, 1.2),
    "deepseek-v4-flash": Price(0.3, 0.006, 1.2),
    "deepseek-v4-pro": Price(1.32, 0.044, 3.96),
}

_OPENAI_LONG = LongPrompt(272_000, 2, 1.5)
LONG_PROMPTS: dict[str, LongPrompt] = {
    **{name: _OPENAI_LONG for name in PRICES if name.startswith(("gpt-6", "gpt-5.6", "gpt-5.5"))},
    "gpt-5.4": _OPENAI_LONG,
    "claude-haiku-5-5": LongPrompt(100_000, 5, 5),
    "gemini-3.1-pro-preview": LongPrompt(200_000, 2, 1.5),
    "gemini-2.5-pro": LongPrompt(200_000, 2, 1.5),
}

_VENDOR = re.compile(r"^(?:openai|azure|anthropic|google|gemini|models|mistral|mistralai|deepseek)/")
_SNAPSHOT = re.compile(r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{8}))?")


def price(model: str, usage: Usage, overrides: Mapping[str, tuple[float, float, float]] | None = None) -> float | None:
    """USD for the usage of one call, or None when the model's price is not known.

    `overrides` maps a model's name, or its beginning and a `*`, to (input, cached input, output) per million tokens and
    wins over the table; (0, 0, 0) is right for a model you serve yourself.
    """
    long = None
    if overrides and (mine := _longest(overrides, model)):
        rate = Price(*overrides[mine])
    elif name := _listed(model):
        rate, long = PRICES[name], LONG_PROMPTS.get(name)
    else:
        return None
    times_input, times_output = (long.input, long.output) if long and usage.input_tokens > long.tokens else (1, 1)
    fresh = usage.input_tokens - usage.cached_tokens
    spent_in = (fresh * rate.input + usage.cached_tokens * rate.cached) * times_input
    return (spent_in + usage.output_tokens * rate.output * times_output) / 1_000_000


@functools.lru_cache(maxsize=1024)
def _listed(model: str) -> str | None:
    """The table's name for a model; remembered, since a run asks for the same few models thousands of times."""
    return _longest(PRICES, _VENDOR.sub("", model.lower()))


def _longest(names: Iterable[str], model: str) -> str | None:
    """The longest name that is the model's, snapshot or not, or that ends in `*` and is its beginning."""
    known = [name for name in names if _is_name_of(name, model)]
    return max(known, key=len, default=None)


def _is_name_of(name: str, model: str) -> bool:
    if name.endswith("*"):
        return model.startswith(name[:-1])
    return model.startswith(name) and bool(_SNAPSHOT.fullmatch(model, len(name)))
