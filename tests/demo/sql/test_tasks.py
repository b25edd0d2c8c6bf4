"""Questions with one right answer, on databases of their own, in parts that share nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import islice

import msgspec
import pytest

from agentlightning.demo.sql.tasks import SIZES, cases, make_tasks, part_of
from agentlightning.demo.sql.world import AGGREGATES, COMPARISONS, Case

PARTS = ("train", "validation", "test", "making")


def run(case: Case, sql: str) -> str:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(case.database)
        return str(connection.execute(sql).fetchone()[0])


def test_parts_share_no_question_and_no_database():
    found = {part: list(islice(cases(part, seed=3), 60)) for part in PARTS}
    several = [case for drawn in found.values() for case in drawn]
    assert len({case.question for case in several}) == len({case.database for case in several}) == 240


def test_a_question_stays_in_its_part_whatever_the_seed():
    assert all(
        part_of(case.question) == part for part in PARTS for seed in (0, 1) for case in islice(cases(part, seed), 20)
    )


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    small = {"train": 5, "test": 5}
    assert make_tasks(small, seed=1) == make_tasks(small, seed=1) != make_tasks(small, seed=2)


def test_there_are_as_many_tasks_as_were_asked_for():
    assert {part: len(tasks) for part, tasks in make_tasks().items()} == SIZES


@pytest.mark.parametrize("case", list(islice(cases("train", seed=5), 20)), ids=lambda case: case.question)
def test_the_right_query_gives_the_answer_and_no_other_does(case: Case):
    query = case.query
    assert run(case, query.sql(case.columns)) == case.answer
    thing = query.thing or next(name for name in case.columns if name != query.where)
    for aggregate in AGGREGATES:
        for comparison in COMPARISONS:
            taken = None if aggregate == "count" else thing
            other = msgspec.structs.replace(query, aggregate=aggregate, comparison=comparison, thing=taken)
            if other != query:
                assert run(case, other.sql(case.columns)) != case.answer


def test_about_half_of_the_columns_do_not_say_what_they_hold():
    names = [(thing, name) for case in islice(cases("train", seed=0), 100) for thing, name in case.columns.items()]
    assert 0.4 < sum(thing != name for thing, name in names) / len(names) < 0.6
