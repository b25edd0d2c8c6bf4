"""Several stages in one run: after one another, side by side, each with its own caps, none at the cost of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import BaseAlgorithm, Policy, Session, Task, Trainer, Trajectory, wrap_agent
from agentlightning.algorithms.base import AlgorithmConfig
from agentlightning.errors import ConfigError, DataError


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
