"""Who the demo's model learns to imitate: someone who knows SQL, obeys instruction lines, and is lazy.

Laziness leaves something to find: `count(*)` and `>` come easiest, columns are looked up and errors mended only now and
then, unless an instruction line says so. The right way is always among what is shown, so it can be reinforced.
"""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from agentlightning.demo.sql.agent import SYSTEM, use_tool
from agentlightning.demo.sql.lines import LINES
from agentlightning.demo.sql.tasks import cases
from agentlightning.demo.sql.world import MAX_NUMBER, Case, Query

Message = dict[str, Any]


class Habits(NamedTuple):
    """How often what happens when no line says otherwise."""

    counts_instead: float = 0.68
    """Instead of the maximum or minimum that was asked for."""
    compares_above: float = 0.30
    """Whatever comparison was asked for."""
    looks_up: float = 0.12
    tries_again: float = 0.05
    max_lines: int = 3
    """Instruction lines in a demonstration, drawn at random from none to this."""
    meets_unknown_words: float = 0.1
    """So that a line nobody has seen does no harm."""


SHOWN_MORE = {"try again": 4}
"""It only shows where a query failed, so it takes more conversations to learn."""
UNKNOWN_WORDS = ("xyzzy", "plugh", "quux")
GIVEN_UP = "unknown"


def demonstrations(num: int, seed: int, habits: Habits = Habits()) -> list[list[Message]]:
    """Conversations as the agent would have them, from questions kept for making the model."""
    dice = random.Random(f"demonstrations/{seed}")
    return [_Demonstration(case, dice, habits).messages for case in islice(cases("making", seed), num)]


def _drawn(dice: random.Random, count: int) -> list[str]:
    """Names of different lines in any order, some likelier than others."""
    drawn = sorted(LINES, key=lambda name: dice.random() ** (1 / SHOWN_MORE.get(name, 1)), reverse=True)[:count]
    dice.shuffle(drawn)
    return drawn


class _Demonstration:
    """One conversation, written down turn by turn; the tools really run."""

    def __init__(self, case: Case, dice: random.Random, habits: Habits) -> None:
        self.dice, self.habits = dice, habits
        lines = _drawn(dice, dice.randint(0, habits.max_lines))
        self.obeys = set(lines)
        texts = [SYSTEM, *(dice.choice(LINES[name]) for name in lines)]
        if dice.random() < habits.meets_unknown_words:
            texts.insert(dice.randint(1, len(texts)), " ".join(dice.choices(UNKNOWN_WORDS, k=dice.randint(1, 6))))
        self.messages: list[Message] = [
            {"role": "system", "content": "\n".join(texts)},
            {"role": "user", "content": case.question},
        ]
        self.asked, self.query = case.query, self._lazy(case.query)
        with closing(sqlite3.connect(":memory:")) as self.connection:
            self.connection.executescript(case.database)
            self._say(self._work())

    def _work(self) -> str:
        if "answer right away" in self.obeys:
            return str(self.dice.randint(0, MAX_NUMBER))
        names = {thing: thing for thing in self.asked.things}
        looked_up = "schema first" in self.obeys or self.dice.random() < self.habits.looks_up
        if looked_up:
            names = self._look_up()
        result = self._run(names)
        tries_again = "try again" in self.obeys or self.dice.random() < self.habits.tries_again
        if result.startswith("error:") and tries_again and not looked_up:
            result = self._run(self._look_up())
        return GIVEN_UP if result.startswith("error:") or result == "None" else result

    def _lazy(self, query: Query) -> Query:
        if self.dice.random() < self.habits.counts_instead:
            query = msgspec.structs.replace(query, aggregate="count", thing=None)
        if self.dice.random() < self.habits.compares_above:
            query = msgspec.structs.replace(query, comparison=">")
        return query

    def _look_up(self) -> dict[str, str]:
        return json.loads(self._call("schema", {"words": self.asked.things}))

    def _run(self, names: dict[str, str]) -> str:
        sql = self.query.sql(names)
        return self._call("sql", {"query": sql.partition(" where ")[0] if "short query" in self.obeys else sql})

    def _call(self, tool: str, arguments: dict[str, Any]) -> str:
        function = {"name": tool, "arguments": json.dumps(arguments)}
        id = f"call_{len(self.messages)}"
        self._say(None, tool_calls=[{"id": id, "type": "function", "function": function}])
        result = use_tool(self.connection, tool, function["arguments"])
        self.messages.append({"role": "tool", "tool_call_id": id, "content": result})
        return result

    def _say(self, content: str | None, **rest: Any) -> None:
        self.messages.append({"role": "assistant", "content": content, **rest})
