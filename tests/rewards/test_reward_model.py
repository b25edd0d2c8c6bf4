"""A reward model is trusted for what it got right on tasks it was not trained on, and only for a while."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from tests.rewards.linear_engine import LinearEngine

from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import ConfigError, DataError
from agentlightning.rewards.reward_model import Preferred, RewardModel, RewardModelSettings, as_conversation

SETTINGS = RewardModelSettings(learning_rate=0.1, epochs=3, batch_size=4, max_updates=3)
WORDS = "red blue green please sorry quickly never always maybe tomorrow".split()


def run(task: int, number: int, output: str) -> Trajectory:
    return Trajectory(
        id=f"r-{task}-{number}", agent_id="a", task=f"t-{task}", input=f"question {task}", timestamp=0.0, output=output
    )


def answers(task: int, chance: random.Random) -> list[Trajectory]:
    """Four answers of a task; two of them hold the word people like."""
    texts = [" ".join(chance.sample(WORDS, 4)) for _ in range(4)]
    return [run(task, n, f"{text} thanks" if n % 2 == 0 else text) for n, text in enumerate(texts)]


def pairs(num_tasks: int, *, is_random: bool = False, first_task: int = 0) -> list[Preferred]:
    """Of each task two pairs in which people prefer the polite answer (or, when random, either)."""
    chance = random.Random(first_task)
    found: list[Preferred] = []
    for task in range(first_task, first_task + num_tasks):
        runs = answers(task, chance)
        for polite, plain in ((runs[0], runs[1]), (runs[2], runs[3])):
            is_turned = is_random and chance.random() < 0.5
            found.append(Preferred(plain, polite) if is_turned else Preferred(polite, plain))
    return found


def trained(given: list[Preferred], **settings: Any) -> RewardModel:
    model = RewardModel(LinearEngine(), RewardModelSettings(**({**_fields(), **settings})))  # type: ignore[arg-type]
    asyncio.run(model.train(given))
    return model


def _fields() -> dict[str, Any]:
    return {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__}


def scores(model: RewardModel, *runs: Trajectory) -> list[float]:
    given = asyncio.run(model.score(runs))
    assert all(
        reward.name == "reward_model" and reward.source == "judge" and reward.reason for reward in given.values()
    )
    return [given[each.id].value for each in runs if each.id in given]


def test_it_learns_what_people_prefer_and_says_how_far_it_agrees_on_unseen_tasks():
    model = trained(pairs(40))
    assert model.trust is not None
    assert model.trust.held_out.num == 20 and model.trust.num_pairs == 60
    assert model.trust.held_out.share > 0.9 and model.trust.is_earned
    liked, plain = scores(model, run(99, 0, "red thanks"), run(99, 1, "red never"))
    assert 0 < plain < 0.5 < liked < 1
    assert "it agrees with people on" in model.trust.describe()


def test_pairs_of_one_task_are_never_on_both_sides():
    model = RewardModel(LinearEngine(), SETTINGS)  # type: ignore[arg-type]
    learned, held_out = model._split(pairs(40))
    assert {pair.better.task for pair in learned}.isdisjoint(pair.better.task for pair in held_out)
    assert len({pair.better.task for pair in held_out}) == 10


def test_the_interval_is_as_wide_as_the_held_out_tasks_are_few():
    model = trained(pairs(12))
    assert model.trust is not None and model.trust.held_out.num == 10
    assert model.trust.held_out.high - model.trust.held_out.low > 0.3


def test_a_model_that_guesses_is_refused():
    model = trained(pairs(40, is_random=True))
    assert model.trust is not None and not model.trust.is_earned and "not used" in model.trust.describe()
    with pytest.raises(DataError, match="no better than guessing"):
        scores(model, run(99, 0, "red thanks"))


def test_too_few_tasks_are_refused_with_another_way():
    with pytest.raises(DataError, match="cover 9 tasks.*at least 10.*DPO"):
        trained(pairs(9))


def test_untrained_it_says_nothing():
    model = RewardModel(LinearEngine())  # type: ignore[arg-type]
    for ask in (model.score([]), model.check(pairs(1)), model.questions([])):
        with pytest.raises(ConfigError, match="has not been trained"):
            asyncio.run(ask)


def test_after_some_updates_of_the_policy_people_are_asked_again():
    model = trained(pairs(40))
    for _ in range(SETTINGS.max_updates):
        assert not model.is_check_due
        model.policy_updated()
    assert model.is_check_due
    with pytest.raises(DataError, match="updated 3 times since people last checked"):
        scores(model, run(99, 0, "red thanks"))
    asyncio.run(model.check(pairs(20, first_task=500)))
    assert not model.is_check_due and model.trust is not None and model.trust.num_updates == 0
    assert scores(model, run(99, 0, "red thanks"))[0] > 0.5


def test_a_check_in_which_people_disagree_takes_the_trust_away():
    model = trained(pairs(40))
    turned = [Preferred(pair.worse, pair.better) for pair in pairs(20, first_task=500)]
    trust = asyncio.run(model.check(turned))
    assert trust.held_out.share < 0.2 and not trust.is_earned
    with pytest.raises(DataError, match="not used"):
        scores(model, run(99, 0, "red"))
    with pytest.raises(DataError, match="fresh choices"):
        asyncio.run(model.check([]))


def test_people_are_asked_where_the_model_is_surest():
    model = trained(pairs(40))
    runs = [run(1, 0, "red"), run(1, 1, "thanks thanks"), run(1, 2, "thanks"), run(2, 0, "thanks"), run(2, 1, "red")]
    asked = asyncio.run(model.questions([*runs, run(3, 0, "alone")]))
    assert [(best.id, worst.id) for best, worst in asked] == [("r-1-1", "r-1-0"), ("r-2-0", "r-2-1")]


def test_people_count_before_the_model():
    model = trained(pairs(40))
    human = Reward(0.1, "rated", "human_feedback", "human")
    runs = [run(99, 0, "red thanks"), run(99, 1, "blue thanks")]
    filled = asyncio.run(model.fill({"r-99-0": human, "other": human}, runs))
    assert filled["r-99-0"] == human and filled["r-99-1"].name == "reward_model" and len(filled) == 2
    unused = RewardModel(LinearEngine())  # type: ignore[arg-type]
    assert asyncio.run(unused.fill({"r-99-0": human}, runs[:1])) == {"r-99-0": human}


def test_trust_travels_with_the_weights():
    model = trained(pairs(40))
    again = RewardModel(model.engine, SETTINGS, trust=model.trust)
    assert scores(again, run(99, 0, "red thanks")) == scores(model, run(99, 0, "red thanks"))


def test_a_rating_that_is_no_number_is_an_error_and_never_a_zero():
    model = trained(pairs(40))
    engine: Any = model.engine
    engine.weights["reward-model"] = dict.fromkeys(engine.weights["reward-model"], math.nan)
    with pytest.raises(DataError, match="no finite number"):
        scores(model, run(99, 0, "red thanks"))


def test_pairs_of_different_tasks_are_refused():
    with pytest.raises(DataError, match="different tasks"):
        trained([*pairs(40), Preferred(run(1, 0, "a"), run(2, 0, "b"))])


def test_what_it_reads_is_the_input_and_the_answer():
    given = Trajectory(id="r", agent_id="a", task="t", input={"q": "hi"}, timestamp=0.0, status="failed", error="boom")
    user, assistant = as_conversation(given)
    assert user == {"role": "user", "content": '{"q":"hi"}'} and "boom" in assistant["content"]


def test_every_minibatch_is_about_the_size_asked_for():
    model = trained(pairs(40))
    engine: Any = model.engine
    assert [each.num_minibatches for each in engine.learned] == [15, 15, 15]
