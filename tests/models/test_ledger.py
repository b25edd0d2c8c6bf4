"""Everything spent is counted once, whatever thread spent it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from agentlightning.data.call import Usage
from agentlightning.models.ledger import Cost, Ledger

USAGE = Usage(input_tokens=1000, output_tokens=100)


def test_roles_are_counted_apart_and_add_up() -> None:
    ledger = Ledger()
    assert ledger.add("task", "gpt-4o", USAGE) == pytest.approx(0.0035)
    ledger.add("optimizer", "gpt-4o", USAGE)
    ledger.add("judge", "gpt-4o", USAGE)
    ledger.add_failed("judge")
    cost = ledger.snapshot()
    assert (cost.calls, cost.task_calls, cost.optimizer_calls, cost.judge_calls) == (4, 1, 1, 2)
    assert (cost.input_tokens, cost.output_tokens, cost.tokens) == (3000, 300, 3300)
    assert cost.usd == pytest.approx(0.0105)
    assert cost.unpriced_calls == 0


def test_what_has_no_price_is_counted_not_guessed() -> None:
    ledger = Ledger()
    assert ledger.add("task", "home-made", USAGE) is None
    assert ledger.snapshot().usd is None
    ledger.add("task", "gpt-4o", None)
    ledger.add("task", "gpt-4o", USAGE)
    cost = ledger.snapshot()
    assert cost.unpriced_calls == 2
    assert cost.usd == pytest.approx(0.0035)


def test_a_model_served_at_home_can_be_free() -> None:
    ledger = Ledger(overrides={"home-made": (0, 0, 0)})
    ledger.add("task", "home-made", USAGE)
    assert ledger.snapshot().usd == 0


def test_an_interrupted_run_goes_on_counting() -> None:
    ledger = Ledger(start=Cost(calls=5, task_calls=5, usd=1.0))
    ledger.add("task", "gpt-4o", USAGE)
    cost = ledger.snapshot()
    assert (cost.calls, cost.task_calls) == (6, 6)
    assert cost.usd == pytest.approx(1.0035)


def test_threads_lose_nothing() -> None:
    ledger = Ledger()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ledger.add("task", "gpt-4o", USAGE), range(2000)))
    assert ledger.snapshot().input_tokens == 2_000_000
    assert ledger.snapshot().calls == 2000


def test_an_answer_of_our_own_engine_costs_nothing_and_is_known_to():
    ledger = Ledger()
    assert ledger.add("task", "./my-model", Usage(100, 10), is_ours=True) == 0.0
    cost = ledger.snapshot()
    assert (cost.usd, cost.unpriced_calls, cost.tokens, cost.task_calls) == (0.0, 0, 110, 1)
