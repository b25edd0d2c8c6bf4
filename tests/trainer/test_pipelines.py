"""Several stages in one run: after one another, side by side, each with its own caps, none at the cost of another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import BaseAlgorithm, Policy, Session, Task, Trainer, Trajectory, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.errors import BudgetExhausted, ConfigError, DataError


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as running:
        yield running


def loudness(task: Task, trajectory: Trajectory) -> float:
    """Half for each member that shouted."""
    return sum(str(trajectory.output).count(word) for word in ("LOUD", "TWICE")) / 2


def team(server: FakeOpenAI, folder: Path, **settings: Any) -> Trainer:
    first = wrap_agent(lambda question: repeat(server, question), name="first")
    second = wrap_agent(lambda question: repeat(server, question), name="second")

    def both(question: str) -> str:
        return f"{first(question)} / {second(question).replace('LOUD', 'TWICE')}"

    return Trainer(
        wrap_agent(both, name="team"),
        reward=loudness,
        data_dir=folder / "data",
        output_dir=folder / "out",
        progress=False,
        **{"max_epochs": 1, **settings},
    )


def side_by_side(*stages: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"parallel": list(stages)}]


def test_stages_side_by_side_each_improve_their_own_agent(server: FakeOpenAI, tmp_path: Path) -> None:
    stages = side_by_side({"name": "apo", "agents": ["first"]}, {"name": "apo", "agents": ["second"]})
    result = team(server, tmp_path, algorithm=stages).train(loud_tasks())
    assert result.verdict == "improved" and result.final == 1.0
    assert {site.split(":")[0] for site in result.prompts} == {"first", "second"}
    assert {entry.stage for entry in result.history} == {"1-apo", "2-apo"}


def test_one_stage_may_name_its_agent_and_leave_the_other_alone(server: FakeOpenAI, tmp_path: Path) -> None:
    result = team(server, tmp_path, algorithm=[{"name": "apo", "agents": ["second"]}]).train(loud_tasks())
    assert result.final == 0.5
    assert {site.split(":")[0] for site in result.prompts} == {"second"}


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"name": "apo", "agents": ["first"]}, {"name": "apo"}], "say for which agents"),
        ([{"name": "apo", "agents": ["first"]}, {"name": "apo", "agents": ["first"]}], "both optimise agent 'first'"),
    ],
)
def test_stages_side_by_side_need_agents_of_their_own(
    server: FakeOpenAI, tmp_path: Path, stages: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        team(server, tmp_path, algorithm=side_by_side(*stages))


class Spender(BaseAlgorithm[AlgorithmConfig]):
    """Runs the training tasks again and again, each time as a new draw, until somebody stops it."""

    name = "spender"

    async def train(self, session: Session) -> Policy:
        draw = 1
        while True:
            await session.rollout(session.training_tasks, draw=draw)
            draw += 1


def test_a_stage_ends_at_its_own_cap_and_the_next_one_still_runs(server: FakeOpenAI, tmp_path: Path) -> None:
    stages = [
        {"name": f"{__name__}:Spender", "budget": {"task_calls": 60}},
        {"name": "apo", "agents": ["first"]},
    ]
    result = team(server, tmp_path, algorithm=stages).train(loud_tasks())
    assert any("stage 1-spender was ended by the budget" in note and "60 of 60" in note for note in result.notes)
    assert result.prompts.keys() == {"first:system"}


class Hopeless(BaseAlgorithm[AlgorithmConfig]):
    """Has nothing to learn from."""

    name = "hopeless"

    async def train(self, session: Session) -> Policy:
        raise DataError("there is nothing good to imitate.")


def test_a_stage_with_nothing_to_learn_from_does_not_cost_what_another_found(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    stages = ["apo", {"name": f"{__name__}:Hopeless"}]
    result = team(server, tmp_path, algorithm=stages).train(loud_tasks())
    assert result.verdict == "improved"
    assert "stage 2-hopeless learned nothing: there is nothing good to imitate." in result.notes


def test_a_lone_stage_with_nothing_to_learn_from_is_an_error(server: FakeOpenAI, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing good to imitate"):
        team(server, tmp_path, algorithm=[{"name": f"{__name__}:Hopeless"}]).train(loud_tasks())


class Measures(BaseAlgorithm[AlgorithmConfig]):
    """Runs what it begins with on every training task, twice, and measures it on the validation tasks."""

    name = "measures"

    async def train(self, session: Session) -> Policy:
        await session.rollout(session.training_tasks, n=2)
        await session.evaluate(session.policy)
        return session.policy


def test_stages_side_by_side_share_the_rollouts_of_what_they_begin_with(server: FakeOpenAI, tmp_path: Path) -> None:
    name = f"{__name__}:Measures"
    apart = [{"name": "apo", "params": {"rounds": 1}}, {"name": name}, {"name": name}]
    together = [apart[0], *side_by_side({"name": name, "agents": ["first"]}, {"name": name, "agents": ["second"]})]
    one = team(server, tmp_path / "apart", algorithm=apart).train(loud_tasks())
    other = team(server, tmp_path / "together", algorithm=together).train(loud_tasks())
    num_training, num_validation, members = 12, 6, 2
    assert one.cost.calls - other.cost.calls == members * (2 * num_training + num_validation)


class Worse(BaseAlgorithm[AlgorithmConfig]):
    """Hands back a policy that shouts, and after it one that does not any more."""

    name = "worse"

    async def train(self, session: Session) -> Policy:
        site = session.sites[0]
        is_loud = "Shout" in session.policy.text_at(site)
        return session.policy.with_prompt(site, "Whisper." if is_loud else "Shout.")


@pytest.mark.parametrize(
    ("carry_on", "begins_with"), [("if_better", "Shout."), ("if_not_worse", "Shout."), ("always", "Whisper.")]
)
def test_what_a_stage_found_is_carried_on_as_the_settings_say(
    server: FakeOpenAI, tmp_path: Path, carry_on: str, begins_with: str
) -> None:
    seen: list[str] = []

    class Last(BaseAlgorithm[AlgorithmConfig]):
        name = "last"

        async def train(self, session: Session) -> Policy:
            seen.append(session.policy.text_at(session.sites[0]))
            return session.policy

    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    stages: list[Any] = [{"name": f"{__name__}:Worse", "carry_on": word} for word in ("if_better", carry_on)]
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    result = Trainer(agent, algorithm=[*stages, Last], progress=False, **folders).train(loud_tasks(20))
    assert seen == [begins_with] and result.prompts == {"parrot:system": "Shout."}


@pytest.mark.parametrize(("is_accepted", "verdict"), [(True, "improved"), (False, "kept original")])
def test_what_no_budget_was_left_to_validate_goes_to_the_test_if_the_algorithm_had_accepted_it(
    server: FakeOpenAI, tmp_path: Path, is_accepted: bool, verdict: str
) -> None:
    class Spender(BaseAlgorithm[AlgorithmConfig]):
        name = "spender"

        async def train(self, session: Session) -> Policy:
            await session.evaluate(session.policy)
            found = session.policy.with_prompt(session.sites[0], "Shout.")
            if is_accepted:
                await session.decide(found, "accepted", parent=session.policy, reason="all tasks gained")
            with contextlib.suppress(BudgetExhausted):
                for draw in range(1000):
                    await session.rollout(session.training_tasks, draw=draw)
            return found

    agent = wrap_agent(lambda question: repeat(server, question), name="parrot")
    folders: dict[str, Any] = {"data_dir": tmp_path / "data", "output_dir": tmp_path / "out"}
    trainer = Trainer(agent, algorithm=Spender, budget={"calls": 120}, progress=False, **folders)
    assert trainer.train(loud_tasks()).verdict == verdict


def test_two_rewards_in_one_run_are_refused_before_the_first_call(server: FakeOpenAI, tmp_path: Path) -> None:
    stages = [{"name": "apo", "reward_function": "exact_match"}, {"name": "apo", "reward_function": "contains"}]
    with pytest.raises(ConfigError, match=r"apo \(exact_match\) and apo \(contains\) have different rewards"):
        team(server, tmp_path, algorithm=stages)
    assert not server.requests
