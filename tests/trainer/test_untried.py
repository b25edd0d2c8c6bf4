"""A run that came to measure nothing new says why, instead of saying that nothing scored higher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import BaseAlgorithm, Policy, Session, Trainer, TrainingResult, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.errors import BudgetExhausted


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def train(server: FakeOpenAI, tmp_path: Path, algorithm: Any = "apo", **budget: Any) -> TrainingResult:
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out", "progress": False}
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    return Trainer(agent, algorithm=algorithm, max_epochs=1, budget=budget, **folders).train(loud_tasks(60))


@pytest.mark.parametrize("calls", [5, 20])
def test_a_budget_that_ends_during_the_baseline_is_said_to(server: FakeOpenAI, tmp_path: Path, calls: int) -> None:
    result = train(server, tmp_path, calls=calls)
    assert result.headline == "Kept the original: no new version was measured"
    assert result.evidence.startswith("The budget ended before the original was measured: the budget of calls is spent")
    assert "scored higher" not in result.summary()
    assert result.summary().count("is spent") == 1, "said once"
    assert result.cost.calls <= calls


def test_a_budget_too_small_to_try_the_agent_says_what_it_takes(server: FakeOpenAI, tmp_path: Path) -> None:
    with pytest.raises(BudgetExhausted, match=r"1 of 1\. Trying and measuring it takes 14 rollouts; raise the cap"):
        train(server, tmp_path, calls=1)


def test_a_budget_too_small_for_a_round_is_said_to(server: FakeOpenAI, tmp_path: Path) -> None:
    result = train(server, tmp_path, calls=45)
    assert "too few for another round" in result.evidence and "measured no new version" in result.evidence


class Idle(BaseAlgorithm[AlgorithmConfig]):
    name = "idle"

    async def train(self, session: Session) -> Policy:
        return session.policy


def test_an_algorithm_that_gives_back_what_it_got_measured_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    assert (
        train(server, tmp_path, Idle).evidence == "Stage 1-idle measured no new version. So the agent stays as it was."
    )


class Silent(BaseAlgorithm[AlgorithmConfig]):
    name = "silent"

    async def train(self, session: Session) -> Policy:
        await session.evaluate(session.policy.with_prompt(session.sites[0], "Whisper."))
        return session.policy


def test_a_version_that_was_measured_and_not_better_is_told_from_none(server: FakeOpenAI, tmp_path: Path) -> None:
    result = train(server, tmp_path, Silent)
    assert not result.untried and "nothing scored higher than 0.00" in result.headline
    assert result.summary().count("scored higher") == 2, "in the headline and what it rests on, not in a note too"


def test_where_only_the_optimiser_is_spent_worked_examples_are_tried(tmp_path: Path) -> None:
    def learns_from_examples(body: dict[str, Any]) -> str:
        said = shouting_model(body)
        if "<runs>" in str(body):
            return "I would rather not."
        shown = any(message["role"] == "assistant" and "LOUD" in message["content"] for message in body["messages"])
        lucky = int(body["messages"][-1]["content"].split()[-1]) % 3 == 0
        return f"LOUD {said.upper()}" if shown or lucky else said

    with FakeOpenAI(learns_from_examples) as server:
        result = train(server, tmp_path, optimizer_calls=4)
    assert result.cost.optimizer_calls == 4
    assert result.final == 1.0 and result.policy.demos["parrot"]
    assert any("the budget of optimizer_calls is spent" in note for note in result.notes)


def test_before_and_after_the_first_rollouts_the_plan_says_what_it_will_take(
    server: FakeOpenAI, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out", "progress": "plain"}
    prices = {"m": {"input": 1000.0, "output": 1000.0}}
    Trainer(agent, max_epochs=1, budget={"prices": prices, "usd": 100}, **folders).train(loud_tasks(60))
    told = capsys.readouterr().err
    assert "proposals: at most about 45 calls of the optimiser, one more for each to be mended" in told
    assert "by the first 2 rollouts one takes 1 call, " in told and "; the baseline about " in told


def test_the_plan_says_who_optimises_and_who_would_judge(
    server: FakeOpenAI, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-x")
    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out", "progress": "plain"}
    models = {"optimizer": {"model": "other", "base_url": server.base_url, "api_key_env": "OTHER_KEY"}}
    Trainer(agent, max_epochs=1, models=models, budget={"calls": 5}, **folders).train(loud_tasks(60))
    told = capsys.readouterr().err
    assert f"optimiser: other at {server.base_url} (configured)\n" in told
    assert "judge, where one is needed: not known yet: the agent's own model, once it is seen\n" in told
