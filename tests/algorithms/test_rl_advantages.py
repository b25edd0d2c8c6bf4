"""The formulas, against references written another way; and what must not change them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.algorithms.rl.advantages import ESTIMATORS, Standard, gae, leave_one_out, relative
from agentlightning.algorithms.rl.batch import credited, graded, repetition, teaches
from agentlightning.algorithms.rl.config import RLConfig
from agentlightning.algorithms.rl.credit import Anchor, Discounted, Steps
from agentlightning.algorithms.rl.gathering import Gathered, Ticket
from agentlightning.algorithms.rl.play import Play
from agentlightning.data.call import Call, Reply
from agentlightning.data.trajectory import Group, Reward, Step, Trajectory

SCORES = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=9)


def advantages(name: str, groups: list[list[float]], floor: float = 0.1) -> list[list[float]]:
    standards = ESTIMATORS[name](groups, floor)
    return [[s.advantage(x) for s, x in zip(a, b, strict=True)] for a, b in zip(standards, groups, strict=True)]


@given(st.lists(SCORES, min_size=1, max_size=4))
def test_baselines_equal_numpys(groups: list[list[float]]) -> None:
    for got, scores in zip(advantages("relative", groups), groups, strict=True):
        x = np.array(scores)
        assert got == pytest.approx((x - x.mean()) / (x.std(ddof=1) + 0.1), abs=1e-9)
    for got, scores in zip(advantages("centred", groups), groups, strict=True):
        assert got == pytest.approx(np.array(scores) - np.mean(scores), abs=1e-9)
    for got, scores in zip(advantages("leave_one_out", groups), groups, strict=True):
        others = [np.delete(scores, i).mean() for i in range(len(scores))]
        assert got == pytest.approx(np.array(scores) - others, abs=1e-9)
    flat = np.array([x for scores in groups for x in scores])
    whole = [x for scores in advantages("whitened", groups) for x in scores]
    assert whole == pytest.approx((flat - flat.mean()) / (flat.std(ddof=1) + 0.1), abs=1e-9)


@given(SCORES, st.floats(-5, 5))
def test_what_all_rollouts_get_alike_teaches_nothing(scores: list[float], shift: float) -> None:
    for name in ESTIMATORS:
        [plain], [shifted] = advantages(name, [scores]), advantages(name, [[x + shift for x in scores]])
        assert shifted == pytest.approx(plain, abs=1e-6)


def test_leave_one_out_is_the_centred_score_scaled_up() -> None:
    [standards] = leave_one_out([[1.0, 0.0, 0.0, 0.0]], 0.0)
    assert [s.advantage(x) for s, x in zip(standards, [1, 0, 0, 0], strict=True)] == pytest.approx(
        [1, -1 / 3, -1 / 3, -1 / 3]
    )


def test_a_group_without_deviation_or_floor_does_not_divide_by_zero() -> None:
    [standards] = relative([[0.5, 0.5]], 0.0)
    assert [s.advantage(0.5) for s in standards] == [0.0, 0.0]


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=6), st.floats(0.1, 1), st.floats(0, 1)
)
def test_gae_equals_the_double_sum_of_the_paper(
    turns: list[tuple[float, float]], discount: float, trust: float
) -> None:
    rewards, values = [r for r, _ in turns], [v for _, v in turns]
    after = [*values[1:], 0.0]
    deltas = [r + discount * n - v for r, n, v in zip(rewards, after, values, strict=True)]
    wanted = [sum((discount * trust) ** (k - t) * deltas[k] for k in range(t, len(turns))) for t in range(len(turns))]
    assert gae(rewards, values, discount, trust) == pytest.approx(wanted, abs=1e-9)


# -- credit


def play(reward: float, *, turns: int = 2, steps: dict[int, float] | None = None, states: str = "") -> Play:
    return Play(
        agent="a",
        rollout_id="r",
        reward=reward,
        samples=[],
        turns=list(range(turns)),
        num_later={t: turns - 1 - t for t in range(turns)},
        states={t: (states or "abcdefgh")[t] for t in range(turns)},
        step_rewards=steps or {},
    )


def test_discounted_credit_fades_with_the_calls_before_the_end() -> None:
    [found] = Discounted(0.5).spread([play(1.0, turns=3)], [Standard(0.0, 1.0)])
    assert found == {0: 0.25, 1: 0.5, 2: 1.0}


def test_step_rewards_go_to_the_answers_before_them() -> None:
    [found] = Steps(1.0).spread([play(1.0, turns=3, steps={0: 0.5, 1: -0.25})], [Standard(0.0, 1.0)])
    assert found == {0: 1.25, 1: 0.75, 2: 1.0}


def test_the_discount_counts_calls_of_other_agents_too() -> None:
    lonely = Play(agent="a", rollout_id="r", reward=1.0, samples=[], turns=[0, 3], num_later={0: 3, 3: 0})
    assert Steps(0.5).returns(lonely) == {0: 0.125, 3: 1.0}


def test_anchors_compare_answers_to_the_same_observation_and_no_others() -> None:
    group = [play(1.0, states="ab"), play(0.0, states="ac")]
    zero = [Standard(1.0, 1.0), Standard(0.0, 1.0)]
    found = Anchor(discount=1.0, weight=1.0, floor=0.0).spread(group, zero)
    half = 0.5 / np.std([1.0, 0.0], ddof=1)
    assert found == [{0: pytest.approx(half), 1: 0.0}, {0: pytest.approx(-half), 1: 0.0}]


# -- rollouts, not rows


def trajectory(number: int, reward: float | None, *, turns: int, is_merging: bool, agents: list[str]) -> Trajectory:
    """Each agent speaks in `turns` turns; with `is_merging` its calls continue one another, else each opens a row."""
    dice, steps, rows = random.Random(number), list[Step](), {agent: list[int]() for agent in agents}
    for turn in range(turns):
        for agent in agents:
            prompt = [*(rows[agent] if is_merging else [900 + turn]), 100 + turn]
            answer = [dice.randrange(4) for _ in range(3)]
            rows[agent] = [*prompt, *answer]
            reply = Reply({"role": "assistant"}, prompt_ids=prompt, completion_ids=answer, logprobs=[-1.0] * 3)
            call = Call(agent, "m", [{"role": "user", "content": f"turn {turn}"}])
            common: dict[str, Any] = {"rollout_id": f"r{number}", "kind": "model", "started_at": 0.0}
            steps.append(Step(id=str(len(steps)), index=len(steps), agent=agent, call=call, reply=reply, **common))
    return Trajectory(id=f"r{number}", agent_id="x", task="t", input="", reward=reward, timestamp=0.0, steps=steps)


def of_batch(trajectories: list[Trajectory], agents: list[str], **settings: Any) -> dict[str, dict[int, float]]:
    """Rollout and agent → turn → advantage."""
    config = RLConfig(**settings)
    groups = [Gathered(Ticket(0, "t", 0, 0, {}), Group("t", trajectories), {})]
    found = credited(graded(groups, agents, config), agents, config)
    plays = [each for by_agent in found for several in by_agent.values() for each in several]
    return {f"{each.play.rollout_id} {each.play.agent}": each.advantages for each in plays}


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 4)), min_size=2, max_size=5),
    st.sampled_from(["grpo", "rloo", "reinforce++"]),
    st.sampled_from(["episode", "discounted", "steps", "anchor"]),
    st.sampled_from(["per_agent", "shared"]),
)
def test_advantages_do_not_depend_on_how_many_rows_a_rollout_became(
    rollouts: list[tuple[float, int]], method: str, credit: str, normalise: str
) -> None:
    def batch(is_merging: bool) -> dict[str, dict[int, float]]:
        made = [
            trajectory(i, reward, turns=turns, is_merging=is_merging, agents=["a", "b"])
            for i, (reward, turns) in enumerate(rollouts)
        ]
        return of_batch(made, ["a", "b"], method=method, credit=credit, normalise=normalise)

    merged, unmerged = batch(True), batch(False)
    assert merged == unmerged and len(merged) == 2 * len(rollouts)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_an_episodes_advantage_does_not_depend_on_the_number_of_turns(rewards: list[float]) -> None:
    short = of_batch([trajectory(i, r, turns=1, is_merging=False, agents=["a"]) for i, r in enumerate(rewards)], ["a"])
    long = of_batch(
        [trajectory(i, r, turns=1 + i, is_merging=False, agents=["a"]) for i, r in enumerate(rewards)], ["a"]
    )
    assert {k: v[0] for k, v in short.items()} == {k: v[0] for k, v in long.items()}
    assert all(len(set(v.values())) == 1 for v in long.values())


def test_an_agent_is_compared_with_itself_unless_told_otherwise() -> None:
    """`b` spoke in the two good rollouts only; per agent it has nothing to learn, shared it is praised."""
    made = [
        trajectory(i, reward, turns=1, is_merging=False, agents=agents)
        for i, (reward, agents) in enumerate([(1.0, ["a", "b"]), (1.0, ["a", "b"]), (0.0, ["a"]), (0.0, ["a"])])
    ]
    own = of_batch(made, ["a", "b"])
    assert own["r0 b"] == {1: 0.0} and own["r0 a"][0] > 0 > own["r2 a"][0]
    assert of_batch(made, ["a", "b"], normalise="shared")["r0 b"][1] > 0


def test_rollouts_without_a_reward_are_dropped_and_counted_never_zero() -> None:
    made = [trajectory(i, r, turns=1, is_merging=True, agents=["a"]) for i, r in enumerate([1.0, None, 1.0])]
    found = graded([Gathered(Ticket(0, "t", 0, 0, {}), Group("t", made), {})], ["a"], RLConfig())
    assert (found.num_unjudged, len(found.groups[0]), found.rewards) == (1, 2, [1.0, 1.0])
    alone = graded([Gathered(Ticket(0, "t", 0, 0, {}), Group("t", made[:2]), {})], ["a"], RLConfig())
    assert (alone.num_alone, alone.groups) == (1, [])


def test_a_group_that_is_as_good_throughout_teaches_nothing() -> None:
    for method in ("grpo", "rloo", "dr_grpo"):
        made = [trajectory(i, 0.1, turns=2, is_merging=True, agents=["a"]) for i in range(7)]
        config = RLConfig(method=method)
        [by_agent] = credited(
            graded([Gathered(Ticket(0, "t", 0, 0, {}), Group("t", made), {})], ["a"], config), ["a"], config
        )
        assert not teaches(by_agent["a"])


def test_step_rewards_and_own_rewards_are_found_on_the_trajectory() -> None:
    made = trajectory(0, 1.0, turns=2, is_merging=True, agents=["a", "b"])
    rewards = [
        Reward(0.25, source="emitted", step=0),
        Reward(0.25, source="emitted", step=0, name="tool"),
        Reward(9.0, source="emitted", step=1),
        Reward(0.75, name="a", is_metric=True),
    ]
    import msgspec

    from agentlightning.algorithms.rl.play import play_of

    found = play_of(msgspec.structs.replace(made, rewards=rewards), "a")
    assert found is not None and (found.step_rewards, found.own_reward, found.turns) == ({0: 0.5}, 0.75, [0, 2])


def test_repetition_is_the_share_of_runs_seen_before() -> None:
    made = trajectory(0, 1.0, turns=1, is_merging=True, agents=["a"])
    same = graded([Gathered(Ticket(0, "t", 0, 0, {}), Group("t", [made, made]), {})], ["a"], RLConfig())
    assert repetition(same) == 0.0  # three tokens: too short to repeat
    assert 0.0 < repetition(same, size=1) < 1.0 or repetition(same, size=1) == 0.0
