"""`reward` in the configuration: a name, a name with settings, a weighted sum; and what a run makes of each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rewards.cases import rollout
from tests.servers import FakeOpenAI
from tests.trainer.worlds import loud_tasks, repeat, shouting_model

from agentlightning import Trainer, emit_reward, open_store
from agentlightning.data.record import make_record
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import ConfigError, DataError
from agentlightning.rewards.base import evaluate_reward
from agentlightning.store.trajectories import read_trajectories
from agentlightning.trainer.config import Config, config_from, load_config
from agentlightning.trainer.resolve import resolve_reward, resolve_stages


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shouting_model) as server:
        yield server


def resolved(reward: Any, base_dir: Path = Path()) -> Any:
    return resolve_reward(config_from({"reward": reward}).reward, base_dir)


def value(reward: Any, expected: Any, output: Any, **fields: Any) -> float | None:
    given = asyncio.run(evaluate_reward(resolved(reward), *rollout(expected, output, **fields)))
    return given.value if given else None


def test_a_name_stays_a_name():
    assert config_from({"reward": "contains"}).reward == "contains"
    assert config_from({}).reward is None
    assert value("contains", "b", "a b c") == 1.0
    assert value("任务成功率", "b", "B.") == 1.0


def test_a_reward_has_settings():
    reward = {"name": "numeric_match", "params": {"relative_tolerance": 0.5}}
    assert value(reward, 100, 140) == 1.0
    assert value([reward], 100, 160) == 0.0


def test_several_make_a_weighted_sum():
    both = ["contains", {"name": "brevity", "params": {"target_words": 1, "limit_words": 5}}]
    assert value(both, "b", "a b c") == 0.75
    weighted = [{"name": "contains", "weight": 0.8}, {**both[1], "weight": 0.2}]  # type: ignore[dict-item]
    assert value(weighted, "b", "a b c") == pytest.approx(0.9)


def test_the_configuration_reads_back_what_it_wrote(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "reward:\n- {name: contains, weight: 0.5}\n- {name: brevity, weight: 0.5, params: {target_words: 1}}\n"
    )
    config = load_config(file, ["reward.1.params.limit_words=9"], env={})
    assert config.reward[1].params == {"target_words": 1, "limit_words": 9}
    assert config_from(config.to_dict()).reward == config.reward


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        ({"name": "brevity", "wieght": 1}, "reward: part 1 has an unknown key 'wieght'. Did you mean 'weight'"),
        (
            ["contains", {"name": "brevity", "limit_words": 1}],
            "part 2 has an unknown key 'limit_words'.*under 'params'",
        ),
        ({"params": {}}, "name: Field required"),
        ([], "must be the name of a reward"),
        (3, "must be the name of a reward"),
        ({"name": "contains", "weight": "much"}, "weight: Input should be a valid number"),
    ],
)
def test_what_is_written_wrong_is_refused_with_the_place(reward: Any, why: str):
    with pytest.raises(ConfigError, match=why):
        config_from({"reward": reward})


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        ("informaton_density", "Did you mean 'information_density'"),
        ({"name": "latency"}, "needs target_seconds, limit_seconds"),
        ([{"name": "contains", "weight": 1}, "exact_match"], "'exact_match' has no weight"),
    ],
)
def test_what_rewards_refuse_is_refused_before_the_run(reward: Any, why: str):
    with pytest.raises(ConfigError, match=why):
        resolved(reward)


def test_a_stage_takes_the_same_forms():
    given: dict[str, Any] = {"name": "apo", "params": {"reward_function": {"name": "brevity", "params": {
        "target_words": 1, "limit_words": 2}}}}  # fmt: skip
    [stage] = resolve_stages(None, config_from({"algorithm": [given]}))
    assert asyncio.run(evaluate_reward(stage.reward, *rollout(None, "a"))).value == 1.0  # type: ignore[union-attr]
    assert isinstance(config_from({"algorithm": "apo"}), Config)


def test_a_run_is_judged_by_a_weighted_sum_with_the_judge_in_it(server: FakeOpenAI, tmp_path: Path):
    reward = [
        {"name": "expected_match", "weight": 0.5},
        {"name": "judge", "weight": 0.5, "params": {"rubric": "Loud?"}},
    ]
    result = trained(server, tmp_path, reward=reward).train(loud_tasks(12))
    assert result.reward_source == "0.5 × expected_match + 0.5 × judge"
    assert (result.baseline, result.final) == (pytest.approx(0.1), pytest.approx(1.0))
    assert "<rubric>\\nLoud?\\n</rubric>" in str([request.json for request in server.requests])


def test_a_users_rating_of_a_rollout_is_its_reward(server: FakeOpenAI, tmp_path: Path):
    rated: dict[str, float] = {}

    def agent(question: str) -> str:
        from agentlightning.interception.scope import current_scope

        scope = current_scope()
        assert scope is not None and scope.recorder is not None
        number = len(rated)
        rated[scope.recorder.rollout_id] = number % 2 / 1
        body = {
            "kind": "rating",
            "rollout": scope.recorder.rollout_id,
            "value": rated[scope.recorder.rollout_id],
            "rater": "Ann",
        }
        store.submit([make_record("feedback", f"f-{number}", body, rollout=scope.recorder.rollout_id)]).result()
        return repeat(server, question)

    store = open_store(tmp_path / "d")
    measured = Trainer(
        agent, store=store, output_dir=tmp_path / "o", progress=False, reward="user_satisfaction"
    ).evaluate(["one", "two", "three", "four"])
    assert {each.id: each.reward for each in measured.trajectories} == rated and len(rated) == 4
    assert {each.rewards[-1].source for each in measured.trajectories} == {"human"}
    asyncio.run(store.close())


# ── a reward that fails is an error on that rollout, never a zero ──


def trained(server: FakeOpenAI, folder: Path, agent: Any = None, **settings: Any) -> Trainer:
    agent = agent or (lambda question: repeat(server, question))
    return Trainer(agent, data_dir=folder / "d", output_dir=folder / "o", progress=False, max_epochs=1, **settings)


def stored(folder: Path) -> list[Trajectory]:
    async def read() -> list[Trajectory]:
        store = open_store(folder / "d")
        try:
            return [trajectory async for trajectory in read_trajectories(store)]
        finally:
            await store.close()

    return asyncio.run(read())


@pytest.mark.parametrize("bad", ["nan", "raise", "async nan", "weighted"])
def test_a_reward_that_fails_now_and_then_is_an_error_there_and_a_zero_nowhere(
    server: FakeOpenAI, tmp_path: Path, bad: str
):
    def sometimes(task: Any, run: Any) -> float:
        if int(task.id[1:]) % 3 == 0:
            if bad == "raise":
                raise KeyError("score")
            return math.nan
        return 1.0

    async def later(task: Any, run: Any) -> float:
        return sometimes(task, run)

    from agentlightning.rewards.combine import Part, WeightedSum

    summed = WeightedSum([Part(sometimes, 1.0, "sometimes")])
    reward = {"async nan": later, "weighted": summed}.get(bad, sometimes)
    result = trained(server, tmp_path, reward=reward).train(loud_tasks(12))
    runs = stored(tmp_path)
    failed = [run for run in runs if int(run.task[1:]) % 3 == 0]
    assert failed and all(run.reward is None and "no reward: reward '" in (run.error or "") for run in failed)
    assert {run.reward for run in runs if run not in failed} == {1.0}
    assert result.baseline == 1.0 and any("have no reward" in note for note in result.notes)


def test_an_agent_that_emits_nan_has_an_error_and_not_the_lowest_reward(server: FakeOpenAI, tmp_path: Path):
    def agent(question: str) -> str:
        emit_reward(math.nan if int(question.split()[1]) % 3 == 0 else 0.5)
        return repeat(server, question)

    trained(server, tmp_path, agent).train(loud_tasks(12))
    runs = stored(tmp_path)
    failed = [run for run in runs if int(run.task[1:]) % 3 == 0]
    assert failed and all(run.reward is None and "emit_reward was given nan" in (run.error or "") for run in failed)
    assert {run.reward for run in runs if run not in failed} == {0.5}


def test_when_it_always_fails_the_run_ends_and_says_why(server: FakeOpenAI, tmp_path: Path):
    with pytest.raises(DataError, match="returned nan"):
        trained(server, tmp_path, reward=lambda task, run: math.nan).train(loud_tasks(12))
