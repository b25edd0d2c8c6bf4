"""The claim: what counts, what is left out, and how often it may be wrong."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.errors import DataError
from agentlightning.trainer.evaluation import (
    MIN_TEST_TASKS,
    paired_interval,
    probability_below,
    tasks_needed,
    verdict,
)


def rewards(values: list[float | None]) -> dict[str, list[float | None]]:
    return {f"t{index}": [value] for index, value in enumerate(values)}


def sign_test_mid_p(wins: int, losses: int) -> float:
    n = wins + losses
    more = sum(math.comb(n, k) for k in range(wins + 1, n + 1))
    return min(1.0, 2 * (more + math.comb(n, wins) / 2) / 2**n)


@pytest.mark.parametrize(("wins", "losses", "ties"), [(6, 0, 0), (5, 1, 4), (9, 2, 9), (3, 3, 14), (1, 0, 29)])
def test_with_binary_rewards_p_is_mcnemars_mid_p(wins: int, losses: int, ties: int) -> None:
    interval = paired_interval([1.0] * wins + [-1.0] * losses + [0.0] * ties)
    assert interval.p_value == pytest.approx(sign_test_mid_p(wins, losses))


def test_the_limits_are_mid_p_clopper_pearson_when_all_differences_are_equal() -> None:
    # The unseen difference weighs Beta(1, 8), and is at either end half of the time.
    interval = paired_interval([0.0] * 8)
    assert interval.high == pytest.approx(1 - 0.05 ** (1 / 8), abs=1e-6)
    assert interval.low == pytest.approx(-interval.high, abs=1e-6)


def test_the_distribution_agrees_with_random_dirichlet_weights() -> None:
    draw = random.Random(7)
    differences = [0.5, -0.25, 0.0, 1.0, 0.1, 0.1, -1.0]
    below = 0
    for number in range(40_000):
        unseen = 1.0 if number % 2 else -1.0
        weights = [draw.expovariate(1.0) for _ in range(8)]
        below += sum(w * d for w, d in zip(weights, [*differences, unseen], strict=True)) < 0.2 * sum(weights)
    assert probability_below(differences, 0.2) == pytest.approx(below / 40_000, abs=0.01)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_interval_holds_the_mean_stays_in_range_and_is_never_empty(differences: list[float]) -> None:
    interval = paired_interval(differences)
    assert -1 <= interval.low < interval.high <= 1
    assert interval.low <= interval.mean <= interval.high
    assert 0 <= interval.p_value <= 1


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=20))
def test_swapping_the_policies_mirrors_the_interval(differences: list[float]) -> None:
    ahead, behind = paired_interval(differences), paired_interval([-d for d in differences])
    assert ahead.low == pytest.approx(-behind.high, abs=1e-6)
    assert ahead.p_value == pytest.approx(behind.p_value, abs=1e-9)


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=6, max_size=25), st.integers(1, 4))
def test_p_is_below_five_percent_exactly_when_the_interval_excludes_zero(
    differences: list[float], num_comparisons: int
) -> None:
    interval = paired_interval(differences, num_comparisons=num_comparisons)
    if abs(interval.p_value - 0.05) > 1e-6:
        assert (interval.low > 0 or interval.high < 0) == (interval.p_value < 0.05)


def test_the_scale_of_the_rewards_does_not_matter() -> None:
    differences = [0.3, 0.1, -0.2, 0.4, 0.0, 0.9]
    small, large = paired_interval(differences), paired_interval([d * 50 for d in differences], reward_range=50)
    assert large.low == pytest.approx(50 * small.low, abs=1e-4)
    assert large.p_value == pytest.approx(small.p_value)


def test_more_comparisons_widen_the_interval() -> None:
    differences = [1.0] * 8 + [0.0] * 6
    one, three = paired_interval(differences), paired_interval(differences, num_comparisons=3)
    assert three.low < one.low < one.high < three.high
    assert three.p_value == pytest.approx(3 * one.p_value)


@pytest.mark.parametrize("bad", [[], [1.5], [float("nan")], [float("inf")]])
def test_differences_that_cannot_be_judged_are_refused(bad: list[float]) -> None:
    with pytest.raises(DataError):
        paired_interval(bad)


def null_error(n: int, p_discordant: float) -> float:
    """Exact chance of an interval above zero when wins and losses are equally likely."""
    error = 0.0
    for wins in range(n + 1):
        for losses in range(n + 1 - wins):
            ties = n - wins - losses
            ways = math.factorial(n) // (math.factorial(wins) * math.factorial(losses) * math.factorial(ties))
            differences = [1.0] * wins + [-1.0] * losses + [0.0] * ties
            if probability_below(differences, 0.0) < 0.025:
                error += ways * (p_discordant / 2) ** (wins + losses) * (1 - p_discordant) ** ties
    return error


@pytest.mark.parametrize("n", [6, 10, 20, 40])
@pytest.mark.parametrize("p_discordant", [0.05, 0.2, 0.35, 0.5])
def test_a_change_that_does_nothing_is_called_improved_in_at_most_one_run_in_forty(n: int, p_discordant: float) -> None:
    assert null_error(n, p_discordant) <= 0.025


@pytest.mark.parametrize("n", [6, 10, 20, 40, 60, 90])
def test_many_small_gains_do_not_hide_a_rare_disaster(n: int) -> None:
    gain, rate = 0.05, 0.05 / 1.05
    error = sum(
        math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
        for k in range(n + 1)
        if probability_below([gain] * (n - k) + [-1.0] * k, 0.0) < 0.025
    )
    assert error <= 0.05


def test_a_clear_gain_is_called_improved_and_the_winner_handed_back() -> None:
    claim = verdict(rewards([0.0] * 10 + [1.0] * 10), {"p-1": rewards([1.0] * 19 + [0.0])})
    assert (claim.verdict, claim.policy_id) == ("improved", "p-1")
    assert claim.best is not None and claim.best.interval is not None
    assert (claim.best.baseline, claim.best.final) == (0.5, 0.95)
    assert claim.best.interval.low > 0


def test_a_gain_that_may_be_luck_hands_the_winner_back_but_claims_nothing() -> None:
    claim = verdict(rewards([0.0] * 4 + [1.0] * 8), {"p-1": rewards([1.0] * 2 + [0.0] * 2 + [1.0] * 8)})
    assert (claim.verdict, claim.policy_id) == ("not shown", "p-1")
    assert any("held-out tasks would show it" in note for note in claim.notes)


@pytest.mark.parametrize("after", [[1.0, 0.0] * 5, [0.0] * 10])
def test_the_original_is_handed_back_unless_the_winner_scored_higher(after: list[float]) -> None:
    claim = verdict(rewards([0.0, 1.0] * 5), {"p-1": rewards([*after])})
    assert (claim.verdict, claim.policy_id) == ("kept original", "original")
    assert claim.best is not None and claim.best.policy_id == "p-1"


def test_without_an_accepted_candidate_the_original_is_kept() -> None:
    claim = verdict(rewards([1.0] * 8), {})
    assert (claim.verdict, claim.best) == ("kept original", None)
    assert claim.notes == []


def test_five_held_out_tasks_never_show_an_improvement() -> None:
    claim = verdict(rewards([0.0] * 5), {"p-1": rewards([1.0] * 5)})
    assert claim.verdict == "not shown"
    assert claim.best is not None and claim.best.interval is None
    assert f"at least {MIN_TEST_TASKS}" in claim.notes[-1]


def test_tasks_the_search_has_seen_show_nothing_however_clear_they_look() -> None:
    claim = verdict(rewards([0.0] * 3), {"p-1": rewards([1.0] * 3)}, is_held_out=False)
    assert (claim.verdict, claim.policy_id) == ("not shown", "p-1")
    assert claim.notes[-1].startswith("3 tasks, none of them held out")


def test_a_winner_that_breaks_the_agent_is_not_flattered() -> None:
    before = rewards([0.5] * 10)
    after = rewards([0.6] * 5 + [None] * 5)
    claim = verdict(before, {"p-1": after})
    assert claim.verdict == "kept original"
    assert claim.best is not None and claim.best.final == pytest.approx(0.3)
    assert any(note.startswith("5 tasks where the winner had a rollout without a reward") for note in claim.notes)


def test_one_failed_repeat_of_the_winner_counts_as_the_lowest_reward() -> None:
    claim = verdict({"a": [0.5, 0.5]}, {"p-1": {"a": [0.8, None]}}, is_held_out=False)
    assert claim.best is not None and claim.best.differences["a"] == pytest.approx(-0.1)


def test_tasks_the_original_was_not_rewarded_on_are_left_out_and_counted() -> None:
    claim = verdict(rewards([None, 0.0, 0.0]), {"p-1": rewards([1.0, 1.0, 0.0])}, is_held_out=False)
    assert claim.best is not None and sorted(claim.best.differences) == ["t1", "t2"]
    assert claim.notes[0].startswith("1 task left out")


def test_tasks_the_winner_never_ran_are_left_out_and_counted() -> None:
    claim = verdict(rewards([0.0] * 8), {"p-1": rewards([1.0] * 7)})
    assert claim.best is not None and claim.best.interval is not None and claim.best.interval.n == 7
    assert any("1 task left out: the winner was not run" in note for note in claim.notes)


def test_nothing_in_common_keeps_the_original_and_says_why() -> None:
    claim = verdict({"a": [None]}, {"p-1": {"a": [1.0]}})
    assert claim.verdict == "kept original"
    assert claim.notes == ["No task has a reward under both policies."]


def test_of_several_winners_the_one_that_is_shown_goes_first() -> None:
    before = rewards([0.0] * 30)
    shown = rewards([1.0] * 14 + [0.0] * 16)
    claim = verdict(before, {"p-low": rewards([1.0] * 3 + [0.0] * 27), "p-high": shown})
    assert (claim.verdict, claim.policy_id) == ("improved", "p-high")
    assert any("2 winners were measured" in note for note in claim.notes)


def test_a_gain_that_shows_alone_may_not_show_among_five_winners() -> None:
    before, after = rewards([0.0] * 20), rewards([1.0] * 6 + [0.0] * 14)
    assert verdict(before, {"p-1": after}).verdict == "improved"
    assert verdict(before, {f"p-{k}": after for k in range(5)}).verdict == "not shown"


def test_rewards_on_another_scale_take_their_range_from_what_was_seen() -> None:
    claim = verdict(rewards([-10.0] * 10), {"p-1": rewards([10.0] * 9 + [None])})
    assert claim.verdict == "improved"
    assert claim.best is not None and claim.best.differences["t9"] == 0.0
    assert "-10 to 10" in claim.notes[0]


def test_reward_bounds_that_do_not_hold_the_rewards_are_refused() -> None:
    with pytest.raises(DataError, match="do not hold"):
        verdict(rewards([2.0]), {"p-1": rewards([3.0])}, reward_bounds=(0.0, 1.0))


def test_the_number_of_tasks_needed_shrinks_as_the_interval_nears_zero() -> None:
    narrow, wide = paired_interval([1.0] * 4 + [0.0] * 8), paired_interval([1.0] * 2 + [0.0] * 10)
    needed = [tasks_needed(interval) for interval in (narrow, wide)]
    assert needed[0] is not None and needed[1] is not None and 12 < needed[0] < needed[1]
    assert tasks_needed(paired_interval([1.0] * 10)) is None
