"""Several algorithms side by side: paired on the same held-out tasks, and never more said than was measured."""

from __future__ import annotations

import pytest

from agentlightning import TrainingResult
from agentlightning.data.resource import Policy
from agentlightning.trainer.comparison import compare_results
from agentlightning.trainer.evaluation import paired_interval
from agentlightning.trainer.result import Cost, TaskOutcome


def run(
    before: list[float | None], after: list[float | None] | None, *, verdict: str = "improved", split: str = "test"
) -> TrainingResult:
    """A run whose winner was measured, or (`after` None) one that found nothing, so that nothing was."""
    outcomes = [
        TaskOutcome(task_id=f"t{i:02}", split=split, input="", baseline_reward=old, final_reward=new)
        for i, (old, new) in enumerate(zip(before, after or before, strict=True))
    ]
    held = after is not None and split == "test"
    return TrainingResult(
        policy=Policy(), verdict=verdict, tasks=outcomes if held else [], difference=0.1 if after else None,
        cost=Cost(calls=7), run_id="run",
    )  # fmt: skip


ZEROS: list[float | None] = [0.0] * 20
ONES: list[float | None] = [1.0] * 20


def test_the_better_one_is_named_when_the_widened_interval_excludes_zero() -> None:
    found = compare_results({"apo": run(ZEROS, ONES), "gepa": run(ZEROS, ZEROS)})
    [duel] = found.duels
    assert found.num_tasks == 20 and duel.difference == 1.0
    assert duel.sentence().startswith("apo did better than gepa here: apo − gepa = +1.00")
    assert duel.interval == paired_interval([1.0] * 20, num_comparisons=3)
    assert "95 % holds for all 3 of them together" in found.summary()


def test_a_small_difference_is_not_shown() -> None:
    almost: list[float | None] = [1.0] * 11 + [0.0] * 9
    half: list[float | None] = [1.0] * 10 + [0.0] * 10
    found = compare_results({"apo": run(ZEROS, almost), "gepa": run(ZEROS, half)})
    assert "which of them is better is not shown" in found.duels[0].sentence()
    assert found.contenders[0].mean == pytest.approx(0.55)


def test_what_the_search_chose_is_compared_also_where_it_was_not_handed_back() -> None:
    worse = run(ONES, ZEROS, verdict="kept original")
    found = compare_results({"apo": worse, "gepa": run(ONES, ONES)})
    assert [contender.mean for contender in found.contenders] == [0.0, 1.0]


def test_an_algorithm_that_found_nothing_stands_as_the_original() -> None:
    found = compare_results({"apo": run(ZEROS, ONES), "gepa": run(ZEROS, None, verdict="kept original")})
    apo, gepa = found.contenders
    assert (apo.found, gepa.found, gepa.mean, gepa.interval) == (True, False, 0.0, None)
    assert "gepa found nothing better on validation, so it stands as the original." in found.summary()


def test_where_nothing_was_held_out_nothing_is_compared() -> None:
    found = compare_results({"apo": run(ZEROS, ONES, split="validation"), "gepa": run(ZEROS, None)})
    assert found.num_tasks == 0 and found.duels == []
    assert "nothing can be compared" in found.summary() and found.contenders[0].mean is None


def test_only_tasks_that_both_were_measured_on_count_and_few_give_no_interval() -> None:
    short = run(ZEROS[:4], ONES[:4])
    found = compare_results({"apo": short, "gepa": run(ZEROS, ZEROS)})
    assert found.num_tasks == 4 and found.duels[0].interval is None
    assert "too few" in found.duels[0].sentence() and "4 held-out tasks are too few" in found.summary()


def test_three_algorithms_give_three_duels_and_wider_intervals() -> None:
    results = {name: run(ZEROS, ONES) for name in ("a", "b", "c")}
    found = compare_results(results)
    assert [(duel.first, duel.second) for duel in found.duels] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found.contenders[0].interval == paired_interval([1.0] * 20, num_comparisons=6)


def test_a_rollout_that_only_the_winner_ended_without_a_reward_counts_as_the_lowest() -> None:
    broken: list[float | None] = [None] * 10 + [1.0] * 10
    found = compare_results({"apo": run(ZEROS, broken), "gepa": run(ZEROS, ZEROS)})
    assert found.contenders[0].mean == 0.5
