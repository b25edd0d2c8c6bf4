"""The trainable story's tasks: questions about databases, each with the answer that is right.

Which part a question belongs to is decided by its own text, so no two parts share a question, whatever the seed; one
part is kept for making the model. Every task has a database of its own.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

from agentlightning.data.task import Task
from agentlightning.demo.sql.world import Case, ask, make_case

SIZES = {"train": 128, "validation": 100, "test": 200}
DEFAULT_SEED = 0
_PARTS = ("test", "validation", "train", "train", "train", "making", "making", "making", "making", "making")
"""Shares of all the questions there are; "making" is what the model itself was made from."""


def make_tasks(sizes: dict[str, int] | None = None, seed: int = DEFAULT_SEED) -> dict[str, list[Task]]:
    """Part → tasks, as `Trainer.train` takes them; no question and no database is in two."""
    return {
        part: [_task(case, f"{part}-{number:03}") for number, case in zip(range(size), cases(part, seed), strict=False)]
        for part, size in (sizes or SIZES).items()
    }


def cases(part: str, seed: int) -> Iterator[Case]:
    """Endlessly many questions of a part, none twice; for "making" that is also what demonstrations are drawn from."""
    dice = random.Random(f"{part}/{seed}")
    seen: set[str] = set()
    while True:
        query, question = ask(dice)
        if part_of(question) == part and question not in seen:
            seen.add(question)
            yield make_case(query, question, dice)


def part_of(question: str) -> str:
    """The one part a question may be used in."""
    return _PARTS[zlib.crc32(question.encode()) % len(_PARTS)]


def _task(case: Case, id: str) -> Task:
    return Task(id=id, input={"question": case.question, "database": case.database}, expected=case.answer)
