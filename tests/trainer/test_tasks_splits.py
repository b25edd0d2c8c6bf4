"""Who learns, who chooses, who tests: the splits never overlap, and repeat."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentlightning.data.task import Task
from agentlightning.errors import DataError
from agentlightning.trainer.tasks import TaskSplits, load_task_splits, load_tasks, split_tasks


def numbered(count: int, start: int = 0) -> list[str]:
    return [f"question {number}" for number in range(start, start + count)]


def sizes(splits: TaskSplits) -> tuple[int, int | None, int | None]:
    validation = None if splits.validation is None else len(splits.validation)
    return len(splits.train), validation, None if splits.test is None else len(splits.test)


def inputs(tasks: list[Task] | None) -> set[str]:
    return {str(task.input) for task in tasks or []}


def split(source: Any, seed: int = 0) -> TaskSplits:
    return split_tasks(load_task_splits(source), seed=seed)


@pytest.mark.parametrize(
    ("count", "expected"), [(10, (3, 3, 4)), (12, (4, 3, 5)), (50, (20, 10, 20)), (400, (208, 32, 160))]
)
def test_one_list_is_divided_about_40_20_40(count: int, expected: tuple[int, int, int]):
    splits = split(numbered(count))
    assert sizes(splits) == expected
    assert not splits.is_cross_fitted and not splits.is_presplit


@pytest.mark.parametrize("count", [1, 3, 9])
def test_too_few_tasks_are_cross_fitted_and_not_tested(count: int):
    splits = split(numbered(count))
    assert splits.is_cross_fitted and splits.validation == splits.train and splits.test is None
    assert len(splits.train) == count


def test_repeats_do_not_make_few_tasks_many():
    assert split([*numbered(5), *numbered(5)]).is_cross_fitted


@given(st.integers(0, 80), st.integers(0, 5), st.randoms(use_true_random=False))
def test_splits_are_disjoint_complete_and_independent_of_order(extra: int, seed: int, shuffle: random.Random):
    tasks = load_tasks([*numbered(10 + extra), *numbered(4)])
    splits = split_tasks(tasks, seed=seed)
    parts = [inputs(splits.train), inputs(splits.validation), inputs(splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 10 + extra
    assert sum(len(part or []) for part in (splits.train, splits.validation, splits.test)) == len(tasks)
    shuffled = list(tasks)
    shuffle.shuffle(shuffled)
    assert split_tasks(shuffled, seed=seed) == splits


def test_another_seed_gives_another_split():
    assert inputs(split(numbered(50), seed=1).test) != inputs(split(numbered(50), seed=2).test)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_spread_evenly(seed: int):
    tasks = [{"input": f"q{n}", "expected": "yes" if n % 2 else "no"} for n in range(60)]
    splits = split(tasks, seed)
    for part in (splits.train, splits.validation, splits.test):
        count = Counter(task.expected for task in part or [])
        assert abs(count["yes"] - count["no"]) <= 2


def test_the_training_tasks_do_not_come_label_by_label():
    tasks = [{"input": f"q{n}", "expected": n < 50} for n in range(100)]
    labels = [task.expected for task in split(tasks).train]
    assert labels != sorted(labels) and labels != sorted(labels, reverse=True)


def test_given_splits_are_left_alone():
    given = {"train": numbered(20), "validation": numbered(5, 20), "test": numbered(5, 25)}
    splits = split(given)
    assert [task.input for task in splits.train] == given["train"]
    assert sizes(splits) == (20, 5, 5)
    assert splits.is_presplit and not splits.is_cross_fitted and not splits.test_disabled


def test_what_is_not_given_is_taken_from_the_training_tasks():
    assert sizes(split({"train": numbered(20), "test": numbered(5, 20)})) == (16, 4, 5)
    assert sizes(split({"train": numbered(20), "validation": numbered(5, 20)})) == (12, 5, 8)
    assert split({"train": numbered(20)}) == split(numbered(20))


def test_a_test_taken_from_training_leaves_out_what_validation_has_seen():
    splits = split({"train": numbered(20), "validation": numbered(5)})
    assert not inputs(splits.test) & inputs(splits.validation)
    assert set(numbered(5)) <= inputs(splits.train)


def test_few_training_tasks_give_none_away():
    splits = split({"train": numbered(5), "test": numbered(8, 5)})
    assert splits.validation == splits.train and splits.is_cross_fitted and sizes(splits) == (5, 5, 8)
    assert sizes(split({"train": numbered(5), "validation": numbered(5, 5)})) == (5, 5, None)


@pytest.mark.parametrize("none", [None, "none", "None"])
def test_none_does_without_a_split(none: str | None):
    untested = split({"train": numbered(20), "test": none})
    assert sizes(untested) == (16, 4, None) and untested.test_disabled
    unvalidated = split({"train": numbered(20), "validation": none, "test": numbered(5, 20)})
    assert unvalidated.validation == unvalidated.train and unvalidated.is_cross_fitted
    assert sizes(unvalidated) == (20, 20, 5)


@pytest.mark.parametrize("split_name", ["train", "validation"])
def test_a_test_task_that_is_learned_from_is_refused_and_named(split_name: str):
    given = {"train": numbered(3), "validation": numbered(3, 3), "test": numbered(3, 6)}
    given["test"].append(given[split_name][1])
    with pytest.raises(DataError, match=rf"in test is also in {split_name} .*'question (1|4)'.*Remove it"):
        load_task_splits(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train": ["a"], "valid": ["b"]}, "unknown split 'valid'. Did you mean 'validation'?"),
        ({"test": ["a"]}, "the splits need 'train'"),
        ({"train": None, "test": ["a"]}, "the splits need 'train'"),
        ({"train": []}, "the list is empty"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(given: dict[str, Any], expected: str):
    with pytest.raises(DataError, match=expected.replace("?", r"\?")):
        load_task_splits(given)


def test_splits_are_read_from_files(tmp_path: Any):
    for name, tasks in (("train", numbered(12)), ("test", numbered(4, 12))):
        (tmp_path / f"{name}.txt").write_text("\n".join(tasks), encoding="utf-8")
    splits = split({"train": tmp_path / "train.txt", "test": str(tmp_path / "test.txt")})
    assert sizes(splits) == (9, 3, 4)
