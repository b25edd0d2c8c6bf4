"""What cannot be learned from, or goes wrong on the way, is said in words with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.algorithms.rl_worlds import LocalSession, TableEngine, Team, on_a_loop, said
from tests.algorithms.test_rl_learning import FAST, TASKS, one_turn, relay

from agentlightning.algorithms import ALGORITHMS
from agentlightning.algorithms.rl.watch import Seen, Watch, fallen
from agentlightning.data.task import Task
from agentlightning.errors import ConfigError, DataError

RL = ALGORITHMS.load("rl")


@on_a_loop
async def test_without_a_model_of_ours_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="models.policy"):
        await RL().train(LocalSession(one_turn, tmp_path, engine=None))


@on_a_loop
async def test_answers_without_token_ids_are_refused_by_name_of_the_step(tmp_path: Path) -> None:
    async def elsewhere(team: Team, task: Task) -> float:
        reward = await one_turn(team, task)
        step = team.steps[-1]
        assert step.reply is not None
        reply = msgspec.structs.replace(step.reply, prompt_ids=None, completion_ids=None, logprobs=None)
        team.steps[-1] = msgspec.structs.replace(step, reply=reply, endpoint="https://api.openai.com/v1")
        return reward

    with pytest.raises(DataError, match=r"step 0 of rollout .*api.openai.com.*models.policy"):
        await RL(**FAST).train(LocalSession(elsewhere, tmp_path, engine=TableEngine(), tasks=TASKS))


@on_a_loop
async def test_some_rollouts_without_ids_are_left_out_and_counted(tmp_path: Path) -> None:
    async def masked(team: Team, task: Task) -> float:
        reward = await one_turn(team, task)
        step = team.steps[-1]
        if team.rollout_id.endswith("3") and step.reply is not None:
            reply = msgspec.structs.replace(step.reply, prompt_ids=None, completion_ids=None, logprobs=None)
            team.steps[-1] = msgspec.structs.replace(step, reply=reply)
        return reward

    session = LocalSession(masked, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await RL(**FAST).train(session)
    assert (await session.evaluate(learned)).mean == 1.0
    assert max(session.metric("num_without_ids")) > 0 and "rollouts left out" in session.words


@on_a_loop
async def test_ids_without_logprobs_are_refused(tmp_path: Path) -> None:
    async def half(team: Team, task: Task) -> float:
        reward = await one_turn(team, task)
        step = team.steps[-1]
        assert step.reply is not None
        team.steps[-1] = msgspec.structs.replace(step, reply=msgspec.structs.replace(step.reply, logprobs=None))
        return reward

    with pytest.raises(DataError, match="no logprobs"):
        await RL(**FAST).train(LocalSession(half, tmp_path, engine=TableEngine(), tasks=TASKS))


@pytest.mark.parametrize("value", [0.0, 1.0])
@on_a_loop
async def test_rewards_that_never_differ_end_training_with_the_reasons(tmp_path: Path, value: float) -> None:
    async def indifferent(team: Team, task: Task) -> float:
        await one_turn(team, task)
        return value

    session = LocalSession(indifferent, tmp_path, engine=TableEngine(), tasks=TASKS)
    assert await RL(**FAST).train(session) == session.policy
    assert f"got the reward {value:g}" in session.words and "harder ones" in session.words
    assert not session.engine.updates and len(session.checkpoints) == 3


@on_a_loop
async def test_what_was_learned_to_the_end_is_not_sampled_on(tmp_path: Path) -> None:
    session = LocalSession(one_turn, tmp_path, engine=TableEngine(), tasks=TASKS)
    learned = await RL(**FAST | {"iterations": 300}).train(session)
    assert "nothing left to learn" in session.words and len(session.checkpoints) < 300
    assert (await session.evaluate(learned)).mean == 1.0


@on_a_loop
async def test_useless_groups_are_counted_and_replaced_where_that_is_asked(tmp_path: Path) -> None:
    async def only_grass(team: Team, task: Task) -> float:
        right = await one_turn(team, task)
        return right if task.id == "t0" else 0.0

    async def learned_from(redraws: int) -> list[int]:
        session = LocalSession(only_grass, tmp_path / str(redraws), engine=TableEngine(), tasks=TASKS)
        await RL(**FAST | {"iterations": 6, "policy_lr": 0.5, "batch_size": 3}, redraws=redraws).train(session)
        assert all(0.5 < share < 1 for share in session.metric("zero_variance_share"))
        return [len(samples) for _, samples, _ in session.engine.updates]

    assert max(await learned_from(0)) == 8
    assert max(await learned_from(2)) >= 16


@on_a_loop
async def test_mixed_cooperation_without_own_rewards_says_how_to_give_them(tmp_path: Path) -> None:
    session = LocalSession(relay, tmp_path, engine=TableEngine(), agents=("coder", "reviewer"), tasks=TASKS)
    with pytest.raises(DataError, match=r"emit_reward\(0.5, name='coder'"):
        await RL(**FAST, cooperation="mixed").train(session)


@on_a_loop
async def test_difference_needs_a_team(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only solo learns"):
        await RL(cooperation="difference").train(LocalSession(one_turn, tmp_path, engine=TableEngine()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"policy_rl": 1}, "Did you mean 'policy_lr'"),
        ({"method": "trpo"}, "'grpo'"),
        ({"group_size": 1}, "nothing to compare"),
        ({"method": "rloo", "clip": (0.2, 0.2)}, "rloo clips nothing"),
        ({"clip": (0.8, 1.28)}, None),
        ({"clip": (1.5, 0.2)}, "below, above"),
        ({"method": "ppo", "credit": "anchor"}, "critic"),
    ],
)
def test_settings_that_do_not_fit_are_refused_with_the_reason(settings: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert RL(**settings).config.clip == (0.8, 1.28)
        return
    with pytest.raises(ConfigError, match=words):
        RL(**settings)


def test_the_seeds_settings_and_every_name_are_known() -> None:
    assert RL(policy_lr=0.001).config.policy_lr == 0.001
    for name in ("grpo", "dr_grpo", "rloo", "reinforce++", "ppo", "cispo", "gspo"):
        made = ALGORITHMS.load(name)()
        assert (made.name, made.config.method) == (name, name)


# -- signs


def seen(reward: float, **more: Any) -> Seen:
    plain: dict[str, Any] = {"num_tasks": 4, "lowest": 0.0, "highest": 1.0, "length": 10.0, "repetition": 0.0}
    return Seen(**plain | {"reward": reward, "useless_share": 0.0} | more)


def test_a_ratio_that_explodes_is_said_once_until_it_is_gone() -> None:
    watch = Watch(4)
    assert watch.look(seen(0.1)) == []
    [words] = watch.look(seen(0.1, ratio_max=5000.0, kl=0.2))
    assert "policy_lr" in words and "5e+03" in words
    assert watch.look(seen(0.1, ratio_max=5000.0)) == [] and not watch.is_lost()
    assert watch.look(seen(0.1)) == [] and len(watch.look(seen(0.1, kl=2.0))) == 1
    watch.look(seen(0.1, kl=float("inf")))
    assert watch.is_lost()


@pytest.mark.parametrize(("what", "start", "growth"), [("length", 10.0, 4.0), ("repetition", 0.0, 0.06)])
def test_answers_that_grow_or_repeat_with_the_reward_are_a_sign(what: str, start: float, growth: float) -> None:
    watch = Watch(4)
    said_so = [w for i in range(10) for w in watch.look(seen(i / 10, **{what: start + growth * i}))]
    assert len(said_so) == 1 and "easier to please than to earn" in said_so[0]
    flat = Watch(4)
    assert not [w for i in range(10) for w in flat.look(seen(0.5 - i / 100, **{what: start + growth * i}))]


def test_many_useless_groups_are_said_with_what_to_change() -> None:
    watch = Watch(4)
    words = [w for _ in range(3) for w in watch.look(seen(0.9, useless_share=0.9))]
    assert len(words) == 1 and "90%" in words[0] and "curriculum" in words[0]


@on_a_loop
async def test_no_reward_at_all_is_no_zero(tmp_path: Path) -> None:
    async def unjudged(team: Team, task: Task) -> float | None:
        await team.ask("solo", [said("user", task.id)])
        return None

    session = LocalSession(unjudged, tmp_path, engine=TableEngine(), tasks=TASKS)
    assert await RL(**FAST | {"iterations": 3}).train(session) == session.policy
    assert not session.engine.updates and session.metric("num_unjudged") == [32.0] * 3


def test_success_that_falls_is_said_where_enough_tasks_tell() -> None:
    words = fallen(1.0, 0.85, 60) or ""
    assert "fell to 0.850 from 1.000" in words and "lower policy_lr" in words
    assert fallen(1.0, 0.95, 60) is None and fallen(0.5, 0.6, 60) is None and fallen(1.0, 0.5, 4) is None
