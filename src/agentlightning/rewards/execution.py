"""Run what the agent wrote, in the sandbox, and compare what comes out: SQL on the task's database, Python code.

Whatever the program does is the agent's doing and scores 0 with the reason. What is wrong with the task (no database,
a reference query that fails) is an error of the rollout's judging.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import DataError
from agentlightning.rewards.base import reward
from agentlightning.rewards.matching import no_answer
from agentlightning.rewards.sandbox import Limits, Outcome, Program, health, run_sandboxed

_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_MAX_ROWS = 10_000


@reward(health=health)
def sql_execution(
    task: Task,
    trajectory: Trajectory,
    *,
    databases: str = "",
    base_dir: Path = Path(),
    wall_seconds: float = 10.0,
    allow_weak_isolation: bool = False,
) -> Reward | None:
    """1 when the query in the output returns the expected rows on the task's database, else 0 with what differs.

    `expected` is the reference query, or its rows. The task's metadata names the database: `database`, a SQLite file
    (or with `databases: ./folder` a name: folder/name.sqlite or folder/name/name.sqlite), or `schema`, SQL that makes
    it. Rows compare as a bag, unless the reference query ends in ORDER BY (or metadata `is_ordered` says so); numbers
    to nine digits; names of columns do not matter, their order does. The query can read that database and nothing else.
    """
    if task.expected is None or trajectory.status == "stopped":
        return None
    if failed := no_answer(trajectory):
        return failed
    query = written_code(trajectory.output, ("sql", "sqlite", ""))
    reference = task.expected if isinstance(task.expected, str) else None
    queries = [query] if reference is None else [reference, query]
    with tempfile.TemporaryDirectory() as folder:
        program = Program(
            arguments=["-I", "-B", "answer.py"],
            files={"answer.py": _script("sandbox_sql.py")},
            copies={"database.sqlite": str(_database(task, Path(databases), base_dir, Path(folder)))},
            stdin=msgspec.json.encode({"queries": queries, "max_rows": _MAX_ROWS}).decode(),
        )
        done = run_sandboxed(program, _sql_limits(program, wall_seconds), allow_weak=allow_weak_isolation)
    lines = [line for line in done.stdout.splitlines(keepends=True) if line.endswith("\n")]  # the last may be cut
    answers = [msgspec.json.decode(line, type=dict[str, Any]) for line in lines]
    expected = _expected_rows(task, reference, answers, done)
    if len(answers) < len(queries):
        return Reward(0.0, f"the query gave no answer: {done.describe()}", source="expected")
    is_ordered = task.metadata.get("is_ordered", reference is not None and _ends_in_order_by(reference))
    wrong = _row_difference(expected, answers[-1], bool(is_ordered))
    return Reward(
        0.0 if wrong else 1.0, wrong or f"the query returns the {len(expected)} expected rows", source="expected"
    )


@reward(health=health)
def code_execution(
    task: Task,
    trajectory: Trajectory,
    *,
    partial_credit: bool = False,
    wall_seconds: float = 10.0,
    memory_mb: int = 512,
    allow_weak_isolation: bool = False,
) -> Reward | None:
    """1 when the Python program in the output does what the task's metadata asks, else 0 with the first failure.

    `cases`: a list of {stdin, stdout}; the program is run for each, and what it prints compared line by line, without
    white space at line ends. `tests`: Python that is run after the program, in its names: assertions, `test_…`
    functions, unittest cases, or `check(candidate)` with `entry_point`. Neither: what the program prints is compared
    with `expected`. `partial_credit` gives the share of cases or tests that passed.
    """
    if trajectory.status == "stopped":
        return None
    if failed := no_answer(trajectory):
        return failed
    code = written_code(trajectory.output, ("python", "py", "python3", ""))
    limits = Limits(wall_seconds=wall_seconds, cpu_seconds=max(1, round(wall_seconds)), memory_bytes=memory_mb << 20)
    cases = task.metadata.get("cases")
    if cases is None and "tests" not in task.metadata:
        if task.expected is None:
            return None
        cases = [{"stdin": task.metadata.get("stdin", ""), "stdout": str(task.expected)}]
    if cases is not None:
        passed, count, failure = _run_cases(task, code, cases, limits, allow_weak_isolation)
    else:
        passed, count, failure = _run_tests(task, code, limits, allow_weak_isolation)
    value = passed / count if partial_credit else float(passed == count)
    reason = f"all {count} pass" if passed == count else f"{passed} of {count} pass; first failure: {failure}"
    return Reward(value, reason, source="expected")


def written_code(output: Any, languages: tuple[str, ...]) -> str:
    """The code in an answer: its longest fenced block in one of the languages, else the whole text."""
    text = output if isinstance(output, str) else str(output)
    blocks = [code for language, code in _FENCE.findall(text) if language.lower() in languages]
    return max(blocks, key=len) if blocks else text.strip()


# ── SQL ──


def _database(task: Task, databases: Path, base_dir: Path, folder: Path) -> Path:
    """The task's database file, made in `folder` when the task gives its schema instead."""
    if isinstance(schema := task.metadata.get("schema"), str):
        made = folder / "database.sqlite"
        try:
            connection = sqlite3.connect(made)
            connection.executescript(schema)
            connection.close()
        except sqlite3.Error as error:
            raise DataError(f"task {task.id}: its schema cannot be run: {error}") from error
        return made
    name = task.metadata.get("database")
    if not isinstance(name, str):
        raise DataError(
            f"task {task.id} says neither 'database' (a SQLite file) nor 'schema' (SQL that makes one) in its metadata."
        )
    root = base_dir / databases.expanduser()
    places = [root / name, root / f"{name}.sqlite", root / name / f"{name}.sqlite"]
    if found := next((place for place in places if place.is_file()), None):
        return found
    raise DataError(f"task {task.id}: there is no database {name!r} (looked at {', '.join(map(str, places))}).")


def _sql_limits(program: Program, wall_seconds: float) -> Limits:
    size = Path(program.copies["database.sqlite"]).stat().st_size
    return Limits(
        wall_seconds=wall_seconds,
        cpu_seconds=max(1, round(wall_seconds)),
        file_bytes=max(16 << 20, size),
        scratch_bytes=size + (64 << 20),
        output_bytes=32 << 20,
        max_processes=2,
    )


def _expected_rows(task: Task, reference: str | None, answers: list[dict[str, Any]], done: Outcome) -> list[list[Any]]:
    if reference is None:
        rows = task.expected
        if not isinstance(rows, list):
            raise DataError(f"task {task.id}: expected is the reference query or its rows; this is {rows!r:.80}")
        return [list(cast(Any, row)) if isinstance(row, list | tuple) else [row] for row in cast(list[Any], rows)]
    if not answers:
        raise DataError(f"task {task.id}: the reference query gave no answer: {done.describe()}")
    if "error" in answers[0]:
        raise DataError(f"task {task.id}: the reference query fails: {answers[0]['error']}")
    return answers[0]["rows"]


def _row_difference(expected: list[list[Any]], answer: Mapping[str, Any], is_ordered: bool) -> str | None:
    """What is wrong with an answer, as a clause; None when it is right."""
    if "error" in answer:
        return f"the query fails: {answer['error']}"
    wanted = [tuple(_even(value) for value in row) for row in expected]
    found = [tuple(_even(value) for value in row) for row in answer["rows"]]
    if wanted and found and len(wanted[0]) != len(found[0]):
        return f"the query returns {len(found[0])} columns ({', '.join(answer['columns'])}), expected {len(wanted[0])}"
    if Counter(wanted) == Counter(found):
        return None if not is_ordered or wanted == found else "the rows are right, their order is not"
    missing, extra = (
        list((Counter(wanted) - Counter(found)).elements()),
        list((Counter(found) - Counter(wanted)).elements()),
    )
    parts = [f"expected {len(wanted)} rows, got {len(found)}"]
    parts += [f"missing {_row(missing[0])}"] if missing else []
    parts += [f"too much {_row(extra[0])}"] if extra else []
    return "; ".join(parts)


def _even(value: Any) -> Any:
    """Numbers by value to nine digits, so that sums in another order agree; the rest as it is, with its type."""
    if isinstance(value, float):
        is_whole = value.is_integer() and abs(value) < 2**53
        return ("number", str(int(value)) if is_whole else f"{value:.9g}")
    if isinstance(value, int):
        return ("number", str(int(value)))
    return (type(value).__name__, str(value))


def _row(row: tuple[Any, ...]) -> str:
    return f"({', '.join(repr(text) if kind == 'str' else text for kind, text in row)})"[:200]


def _ends_in_order_by(query: str) -> bool:
    """Does the outermost SELECT sort? Text, comments and everything in brackets is blanked first."""
    plain = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/", " ", query, flags=re.DOTALL)
    while (shorter := re.sub(r"\([^()]*\)", " ", plain)) != plain:
        plain = shorter
    return re.search(r"\border\s+by\b", plain, re.IGNORECASE) is not None


# ── Python ──


def _run_cases(task: Task, code: str, cases: Any, limits: Limits, allow_weak: bool) -> tuple[int, int, str]:
    """How many cases pass, of how many, and the first failure. Expected outputs never enter the sandbox."""
    if not isinstance(cases, list) or not cases:
        raise DataError(f"task {task.id}: cases is a list of {{stdin, stdout}}; this is {cases!r:.80}")
    passed, failure = 0, ""
    for number, case in enumerate(cast(list[Any], cases), start=1):
        if not isinstance(case, dict) or "stdout" not in case:
            raise DataError(
                f"task {task.id}: case {number} needs 'stdout' (and may have 'stdin'); this is {case!r:.80}"
            )
        given, expected = str(cast(Any, case).get("stdin", "")), str(cast(Any, case)["stdout"])
        program = Program(arguments=["-I", "-B", "solution.py"], files={"solution.py": code}, stdin=given)
        done = run_sandboxed(program, limits, allow_weak=allow_weak)
        if done.is_fine and _lines(done.stdout) == _lines(expected):
            passed += 1
        elif not failure:
            said = f"printed {done.stdout[:200]!r}, expected {expected[:200]!r}" if done.is_fine else done.describe()
            failure = f"case {number}{f' (input {given[:100]!r})' if given else ''}: {said}"
    return passed, len(cast(list[Any], cases)), failure


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def _run_tests(task: Task, code: str, limits: Limits, allow_weak: bool) -> tuple[int, int, str]:
    tests = task.metadata["tests"]
    tests = "\n".join(cast(list[str], tests)) if isinstance(tests, list) else tests
    if not isinstance(tests, str) or not tests.strip():
        raise DataError(f"task {task.id}: tests is Python code; this is {tests!r:.80}")
    word = secrets.token_hex(16)
    program = Program(
        arguments=["-I", "-B", "judge.py"],
        files={"judge.py": _script("sandbox_tests.py"), "solution.py": code},
        stdin=msgspec.json.encode(
            {"word": word, "tests": tests, "entry_point": task.metadata.get("entry_point", "")}
        ).decode(),
    )
    done = run_sandboxed(program, limits, allow_weak=allow_weak)
    lines = [line for line in done.stdout.splitlines() if line.startswith(word)]
    if not lines:
        return 0, 1, f"the program ended before its tests did: {done.describe()}"
    verdict = msgspec.json.decode(lines[-1].removeprefix(word), type=dict[str, Any])
    count, failed = verdict["num_tests"], verdict["failed"]
    return count - len(failed), count, failed[0] if failed else ""


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
