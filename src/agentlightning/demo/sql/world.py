"""Small databases whose columns do not always say what they hold, and questions about them with one right answer.

Half of the columns bear a code such as `c3`; the table `columns` says what a code means. The right answer to a question
differs from what every other aggregate and comparison would give, so that nobody is right by luck.
"""

from __future__ import annotations

import operator
import random

import msgspec

TABLES = ("orders", "parcels", "machines", "boats", "houses", "animals")
THINGS = ("price", "weight", "age", "height", "speed", "score", "stock", "power")
CODES = tuple(f"c{number}" for number in range(1, 9))
AGGREGATES = ("count", "max", "min")
COMPARISONS = (">", "<", "=")
MAX_NUMBER = 99

ASKED = {
    "count": ("How many {table} have", "What is the number of {table} with"),
    "max": ("What is the largest {thing} of {table} with", "What is the highest {thing} of {table} with"),
    "min": ("What is the smallest {thing} of {table} with", "What is the lowest {thing} of {table} with"),
}
_HOLDS = {">": operator.gt, "<": operator.lt, "=": operator.eq}

COMPARED = {">": ("above", "over"), "<": ("below", "under"), "=": ("equal to", "of exactly")}


class Query(msgspec.Struct, frozen=True):
    """What a question asks for. `thing` is what the aggregate is taken of; counting takes none."""

    table: str
    aggregate: str
    thing: str | None
    where: str
    comparison: str
    number: int

    @property
    def things(self) -> list[str]:
        """What must be found among the columns."""
        return [self.where] if self.thing is None else [self.thing, self.where]

    def sql(self, columns: dict[str, str]) -> str:
        """As SQL, with the names the columns really have."""
        what = "count(*)" if self.thing is None else f"{self.aggregate}({columns[self.thing]})"
        return f"select {what} from {self.table} where {columns[self.where]} {self.comparison} {self.number}"


class Case(msgspec.Struct, frozen=True):
    """A question, the database it is about (an SQL script) and its answer."""

    question: str
    query: Query
    columns: dict[str, str]
    """What is asked about → the name of its column."""
    database: str
    answer: str


def ask(dice: random.Random) -> tuple[Query, str]:
    """A query and the question that asks for it."""
    query = _query(dice)
    asked = dice.choice(ASKED[query.aggregate]).format(table=query.table, thing=query.thing)
    return query, f"{asked} {query.where} {dice.choice(COMPARED[query.comparison])} {query.number}?"


def make_case(query: Query, question: str, dice: random.Random) -> Case:
    """The question with a database that gives it a right answer of its own."""
    while True:
        things = [*query.things, *dice.sample([t for t in THINGS if t not in query.things], 4 - len(query.things))]
        dice.shuffle(things)
        rows = _rows(query, things, dice)
        answer, others = _answers(query, things, rows)
        if answer is not None and answer not in others:
            columns = _columns(things, dice)
            return Case(question, query, columns, _script(query, columns, rows), str(answer))


def _query(dice: random.Random) -> Query:
    aggregate, comparison = dice.choice(AGGREGATES), dice.choice(COMPARISONS)
    thing, where = dice.sample(THINGS, 2)
    number = dice.randint(15, 85)
    return Query(dice.choice(TABLES), aggregate, None if aggregate == "count" else thing, where, comparison, number)


def _columns(things: list[str], dice: random.Random) -> dict[str, str]:
    codes = dice.sample(CODES, len(things))
    return {thing: code if dice.random() < 0.5 else thing for thing, code in zip(things, codes, strict=True)}


def _rows(query: Query, things: list[str], dice: random.Random) -> list[list[int]]:
    """Some rows on every side of the number the question compares with."""
    compared = [query.number] * dice.randint(2, 5)
    compared += [dice.randint(query.number + 1, MAX_NUMBER) for _ in range(dice.randint(2, 5))]
    compared += [dice.randint(0, query.number - 1) for _ in range(dice.randint(2, 5))]
    dice.shuffle(compared)
    return [[value if t == query.where else dice.randint(0, MAX_NUMBER) for t in things] for value in compared]


def _script(query: Query, columns: dict[str, str], rows: list[list[int]]) -> str:
    named = ", ".join(f"{name} integer" for name in columns.values())
    values = ", ".join(f"({', '.join(map(str, row))})" for row in rows)
    meanings = ", ".join(f"('{thing}', '{name}')" for thing, name in columns.items())
    return (
        f"create table {query.table} ({named});\ninsert into {query.table} values {values};\n"
        f"create table columns (holds text, name text);\ninsert into columns values {meanings};\n"
    )


def _answers(query: Query, things: list[str], rows: list[list[int]]) -> tuple[int | None, list[int | None]]:
    """The right answer, and what every other aggregate and comparison, with and without condition, would give."""
    where = things.index(query.where)
    thing = things.index(query.thing or next(t for t in things if t != query.where))
    found: dict[tuple[str, str], int | None] = {}
    for comparison in (*COMPARISONS, ""):
        kept = [row[thing] for row in rows if not comparison or _HOLDS[comparison](row[where], query.number)]
        found |= {("count", comparison): len(kept)}
        found |= {("max", comparison): max(kept, default=None), ("min", comparison): min(kept, default=None)}
    return found.pop((query.aggregate, query.comparison)), list(found.values())
