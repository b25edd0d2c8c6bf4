"""A price is a fact from the table or nothing."""

from __future__ import annotations

import pytest

from agentlightning.data.call import Usage
from agentlightning.models.prices import LONG_PROMPTS, PRICES, price

MILLION = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
THOUSAND = Usage(input_tokens=1000, output_tokens=1000)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-4o", 12.5),
        ("gpt-4o-mini", 0.75),
        ("gpt-4o-mini-2024-07-18", 0.75),
        ("gpt-4o-2024-05-13", 20),
        ("openai/GPT-4o", 12.5),
        ("claude-sonnet-4-5-20250929", 18),
        ("models/gemini-2.5-flash", 2.8),
    ],
)
def test_the_longest_known_name_sets_the_price(model: str, usd: float) -> None:
    assert price(model, MILLION) == pytest.approx(usd)


@pytest.mark.parametrize(
    "model", ["", "gpt", "gpt-9", "gpt-4o-audio-preview", "gpt-5.9", "my/gpt-4o", "qwen3", "mygpt-4o"]
)
def test_an_unknown_name_has_no_price_even_when_it_looks_like_a_known_one(model: str) -> None:
    assert price(model, MILLION) is None


def test_cached_input_is_cheaper() -> None:
    assert price("gpt-4o", Usage(input_tokens=1000, cached_tokens=1000)) == pytest.approx(0.00125)


@pytest.mark.parametrize("name", sorted(LONG_PROMPTS))
def test_a_long_prompt_costs_more_from_one_token_over_the_limit(name: str) -> None:
    limit = LONG_PROMPTS[name].tokens
    just, over = price(name, Usage(input_tokens=limit)), price(name, Usage(input_tokens=limit + 1))
    assert just is not None and over is not None
    assert just == pytest.approx(limit * PRICES[name].input / 1e6)
    assert over == pytest.approx((limit + 1) * PRICES[name].input * LONG_PROMPTS[name].input / 1e6)


def test_your_own_prices_win() -> None:
    overrides = {"gpt-4o": (1.0, 0.5, 2.0), "qwen*": (0.0, 0.0, 0.0)}
    assert price("gpt-4o-2024-08-06", THOUSAND, overrides) == pytest.approx(0.003)
    assert price("gpt-4o-mini", THOUSAND, overrides) == price("gpt-4o-mini", THOUSAND)
    assert price("qwen3-8b", THOUSAND, overrides) == 0


def test_the_table_is_plausible() -> None:
    for name, rate in PRICES.items():
        assert 0 < rate.cached <= rate.input < rate.output, name
