"""Caps of every kind leave room for the held-out test, so that a run with a budget still shows something."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import BaseAlgorithm, Policy, Session, Trainer, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.data.call import Usage
from agentlightning.errors import BudgetExhausted
from agentlightning.models.ledger import Ledger
from agentlightning.models.prices import PRICES_AS_OF
from agentlightning.trainer.budget import Budget, Limits

PRICES = {"m": {"input": 1.0, "output": 1.0}}


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


class Greedy(BaseAlgorithm[AlgorithmConfig]):
    """Knows what to say at once, and then runs it until somebody stops it."""

    name = "greedy"

    async def train(self, session: Session) -> Policy:
        found = session.policy.with_prompt(session.sites[0], "Shout.")
        with contextlib.suppress(BudgetExhausted):
            await session.evaluate(found)
            for draw in itertools.count(1):
                await session.rollout(session.training_tasks, policy=found, draw=draw)
        return found


@pytest.mark.parametrize("cap", [{"usd": 0.004}, {"tokens": 4000}, {"calls": 150}, {"minutes": 0.06}])
def test_a_search_that_spends_all_it_gets_is_still_tested(
    server: FakeOpenAI, tmp_path: Path, cap: dict[str, Any]
) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    settings: dict[str, Any] = {"budget": {"prices": PRICES, **cap}, "max_in_flight": 2, "progress": False}
    made = Trainer(agent, algorithm=Greedy, **settings, **folders)
    result = made.train(loud_tasks(30))
    assert result.num_test_tasks >= 10 and result.verdict == "improved", result.notes
    assert any("the search was ended by the budget: " in note and "kept for" in note for note in result.notes)
    tokens = result.cost.input_tokens + result.cost.output_tokens
    spent = {"usd": (result.cost.usd or 0.0) / 0.004, "tokens": tokens / 4000, "calls": result.cost.calls / 150}
    assert all(spent[name] <= 1.05 for name in cap if name in spent)


def test_what_a_call_takes_on_average_turns_money_into_calls() -> None:
    budget = Budget(Limits(usd=10.0), Ledger(overrides={"m": (1e6, 0.0, 0.0)}))
    assert budget.calls_left == float("inf"), "nothing is known yet"
    for _ in range(2):
        budget.admit("task")
        budget.ledger.add("task", "m", Usage(input_tokens=1, output_tokens=1))
        budget.rollout_ended(1, tokens=2, usd=1.0)
    assert budget.calls_left == 8
    budget.reserve(3)
    assert budget.calls_left == 5


def test_time_that_is_shared_by_rollouts_in_flight_is_set_aside_too() -> None:
    budget = Budget(Limits(minutes=1.0), Ledger(), max_in_flight=4)
    budget.rollout_ended(2, seconds=12.0)
    assert budget.calls_left == float("inf"), "no search is planned by the clock"
    assert budget.calls_affordable == pytest.approx(60 / (12 / 4 / 2), rel=0.01)


def test_a_cap_in_money_says_by_which_prices(
    server: FakeOpenAI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    Trainer(agent, progress="plain", budget={"usd": 1.0, "prices": PRICES}, max_epochs=1, **folders).train(
        loud_tasks(12)
    )
    assert f"budget: usd ≤ 1 (list prices of {PRICES_AS_OF}; yours for m)" in capsys.readouterr().err
