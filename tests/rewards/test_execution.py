"""SQL and Python that an agent wrote are run, and what comes out decides; attempts to cheat or break out score 0."""

from __future__ import annotations

import asyncio
import functools
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Trajectory
from agentlightning.errors import DataError
from agentlightning.rewards.base import evaluate_reward
from agentlightning.rewards.combine import Part, WeightedSum, describe_reward
from agentlightning.rewards.execution import _ends_in_order_by, code_execution, sql_execution, written_code
from agentlightning.rewards.sandbox import available_mode, health

pytestmark = pytest.mark.skipif(available_mode() == "limits", reason="this system cannot build these walls")

SCHEMA = """
CREATE TABLE sales (city TEXT, amount REAL, number INTEGER);
INSERT INTO sales VALUES ('Oslo', 0.1, 1), ('Oslo', 0.2, 2), ('Bergen', 5, 1234567890), ('Bodø', NULL, 3);
"""


def judged(function: Any, output: Any, expected: Any = None, *, status: Any = "succeeded", **metadata: Any) -> Any:
    task = Task(id="t-1", input="?", expected=expected, metadata=metadata)
    trajectory = Trajectory(
        id="r-1", agent_id="a", task="t-1", input="?", timestamp=0.0, output=output, expected=expected, status=status
    )
    return asyncio.run(evaluate_reward(function, task, trajectory))


def sql(output: Any, expected: Any = "SELECT city, sum(amount) FROM sales GROUP BY city", **metadata: Any) -> Reward:
    return judged(sql_execution, output, expected, **({"schema": SCHEMA} | metadata))


def test_a_query_with_the_expected_rows_in_any_order_is_right():
    said = sql(
        "Here it is:\n```sql\nSELECT city AS c, total(amount) FROM sales WHERE amount > 0 GROUP BY 1\nUNION "
        "SELECT city, NULL FROM sales WHERE amount IS NULL ORDER BY 1 DESC\n```\nHope it helps!"
    )
    assert (said.value, said.name, said.source) == (1.0, "sql_execution", "expected"), said.reason


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("SELECT city, sum(amount) FROM sales WHERE city = 'Oslo' GROUP BY city", "expected 3 rows, got 1; missing"),
        ("SELECT city FROM sales GROUP BY city", "returns 1 columns (city), expected 2"),
        ("SELECT town FROM sales", "no such column: town"),
        ("", "expected 3 rows, got 0"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("I cannot do that.", "syntax error"),
    ],
)  # fmt: skip
def test_a_wrong_query_says_what_is_wrong(query: str, why: str):
    said = sql(query)
    assert said.value == 0.0 and why in (said.reason or ""), said.reason


def test_order_counts_only_where_the_reference_sorts():
    rows, upside_down = "SELECT city FROM sales ORDER BY city", "SELECT city FROM sales ORDER BY city DESC"
    assert sql(upside_down, rows).reason == "the rows are right, their order is not"
    assert sql(upside_down, rows.partition(" ORDER")[0]).value == 1.0
    assert sql(upside_down, rows, is_ordered=False).value == 1.0


@pytest.mark.parametrize(
    ("query", "is_ordered"),
    [
        ("select a from b order by a", True),
        ("select a from (select a from b order by a limit 3)", False),
        ("select rank() over (order by a) from b", False),
        ("select ' order by ' from b -- order by\n/* order by */", False),
        ("select max(a) from (select (1)) ORDER\n BY 1", True),
    ],
)
def test_the_outermost_select_tells_whether_order_counts(query: str, is_ordered: bool):
    assert _ends_in_order_by(query) is is_ordered


def test_rows_can_be_expected_themselves():
    assert sql("SELECT city, number FROM sales WHERE number > 2", [["Bergen", 1234567890.0], ["Bodø", 3]]).value == 1.0
    assert sql("SELECT number + 1 FROM sales WHERE number > 3", [[1234567890]]).value == 0.0  # large numbers are exact
    assert sql("SELECT 3", [3]).value == 1.0
    assert sql("SELECT '3'", [3]).value == 0.0


@pytest.mark.parametrize(
    "query",
    [
        "ATTACH DATABASE '/etc/passwd' AS p",
        "DELETE FROM sales",
        "INSERT INTO sales VALUES ('x', 1, 1)",
        "CREATE TABLE t (a)",
        "SELECT load_extension('/tmp/x.so')",
        "PRAGMA writable_schema = 1",
        "VACUUM INTO 'copy.sqlite'",
    ],
)
def test_a_query_can_only_read_its_database(query: str, tmp_path: Path):
    file = tmp_path / "shop.sqlite"
    with sqlite3.connect(file) as connection:
        connection.executescript(SCHEMA)
    connection.close()
    before = file.read_bytes()
    said = judged(sql_execution, query, "SELECT 1", database=str(file))
    assert said.value == 0.0 and "the query fails" in said.reason
    assert file.read_bytes() == before


def test_a_query_that_never_ends_scores_zero_and_the_reference_is_still_heard():
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

    def quick(task: Any, trajectory: Any) -> Any:
        return sql_execution(task, trajectory, wall_seconds=4.0)

    said = judged(quick, endless, "SELECT 1", schema=SCHEMA)
    assert said.value == 0.0 and "the query gave no answer" in said.reason


def test_a_database_is_found_by_name_in_a_folder(tmp_path: Path):
    (tmp_path / "all" / "shop").mkdir(parents=True)
    with sqlite3.connect(tmp_path / "all" / "shop" / "shop.sqlite") as connection:
        connection.executescript(SCHEMA)
    connection.close()

    def found(task: Any, trajectory: Any) -> Any:
        return sql_execution(task, trajectory, databases="all", base_dir=tmp_path)

    assert judged(found, "SELECT count(*) FROM sales", [[4]], database="shop").value == 1.0
    with pytest.raises(DataError, match="no database 'shops'"):
        judged(found, "SELECT 1", [[1]], database="shops")


@pytest.mark.parametrize(
    ("expected", "metadata", "why"),
    [
        ("SELECT town FROM sales", {"schema": SCHEMA}, "the reference query fails: OperationalError: no such column"),
        ("SELECT 1", {"schema": "CREATE TABEL x"}, "its schema cannot be run"),
        ("SELECT 1", {}, "neither 'database'"),
        (7, {"schema": SCHEMA}, "expected is the reference query or its rows"),
    ],
)
def test_a_broken_task_is_an_error_and_not_the_agents_zero(expected: Any, metadata: Any, why: str):
    with pytest.raises(DataError, match=why):
        judged(sql_execution, "SELECT 1", expected, **metadata)


def test_what_was_not_answered_is_zero_and_what_was_stopped_is_not_judged():
    assert judged(sql_execution, None, "SELECT 1", status="failed").value == 0.0
    assert judged(sql_execution, None, "SELECT 1", status="stopped") is None
    assert judged(sql_execution, "SELECT 1", None) is None
    assert judged(code_execution, None, status="timeout", tests="assert True").value == 0.0
    assert judged(code_execution, "1", status="stopped") is None
    assert judged(code_execution, "1") is None


def test_the_longest_block_in_the_language_is_the_code():
    text = "Try\n```bash\npip install something-very-long\n```\nthen\n```python\nx = 1\n```\nor\n```py\nx = 2 + 3\n```"
    assert written_code(text, ("python", "py")) == "x = 2 + 3"
    assert written_code("  print(1) ", ("python",)) == "print(1)"
    assert written_code("```python\nx = 1", ("python",)) == "x = 1"  # cut off


ADDS = "```python\na, b = map(int, input().split())\nprint(a + b)\n```"
CASES = [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 -7", "stdout": "-2"}, {"stdin": "0 0", "stdout": "0"}]


def test_a_program_is_run_on_every_case():
    assert judged(code_execution, ADDS, cases=CASES) == Reward(1.0, "all 3 pass", "code_execution", "expected")
    wrong = judged(code_execution, ADDS.replace("a + b", "max(a + b, 0)"), cases=CASES)
    assert wrong.value == 0.0 and wrong.reason.startswith("2 of 3 pass; first failure: case 2 (input '5 -7'): printed")


def test_partial_credit_is_the_share_that_passed():
    def partly(task: Any, trajectory: Any) -> Any:
        return code_execution(task, trajectory, partial_credit=True)

    assert judged(partly, ADDS.replace("a + b", "max(a + b, 0)"), cases=CASES).value == pytest.approx(2 / 3)


def test_what_a_program_prints_can_be_the_expected_answer():
    assert judged(code_execution, "print('42 ')", 42).value == 1.0
    broken = judged(code_execution, "1 / 0", 42)
    assert broken.value == 0.0 and "ZeroDivisionError" in broken.reason


DOUBLE = "def double(x):\n    return x * 2"


@pytest.mark.parametrize(
    ("tests", "metadata"),
    [
        ("assert double(2) == 4\nassert double(0) == 0", {}),
        (["assert double(2) == 4", "assert double(-1) == -2"], {}),
        ("import solution\ndef test_it():\n    assert solution.double('a') == 'aa'", {}),
        ("def check(candidate):\n    assert candidate(3) == 6", {"entry_point": "double"}),
        (
            "from unittest import *\nclass T(TestCase):\n    def test_it(s):\n        s.assertEqual(double(2), 4)",
            {},
        ),
    ],
)
def test_tests_of_every_form_pass_and_fail(tests: Any, metadata: Any):
    assert judged(code_execution, DOUBLE, tests=tests, **metadata).value == 1.0
    wrong = judged(code_execution, DOUBLE.replace("* 2", "* 3"), tests=tests, **metadata)
    assert wrong.value == 0.0 and "AssertionError" in wrong.reason


@pytest.mark.parametrize(
    "cheat",
    [
        "import os\nos._exit(0)",
        "import sys\nsys.exit(0)",
        "raise KeyboardInterrupt",
        "print('all 1 pass')\nprint('0' * 32 + ' {\"num_tests\": 1, \"failed\": []}')",
        "import sys, os\nprint(sys.stdin.read(), os.environ)",
        "import atexit, os\natexit.register(lambda: os._exit(0))\ndef double(x): raise SystemExit(0)",
        "while True: pass",
        "def double(x):\n    open('/etc/passwd').read()\n    return 4",
        "def double(x):\n    import socket; socket.create_connection(('127.0.0.1', 1)); return 4",
    ],
)
def test_a_program_that_exits_prints_or_breaks_out_has_passed_nothing(cheat: str):
    def quick(task: Any, trajectory: Any) -> Any:
        return code_execution(task, trajectory, wall_seconds=4.0)

    said = judged(quick, cheat, tests="assert double(2) == 4")
    assert said.value == 0.0 and said.reason.startswith("0 of 1 pass")


@pytest.mark.parametrize(
    ("metadata", "why"),
    [({"tests": 3}, "tests is Python code"), ({"cases": []}, "cases is a list"), ({"cases": [{"in": 1}]}, "'stdout'")],
)
def test_broken_tests_are_an_error_and_not_the_agents_zero(metadata: Any, why: str):
    with pytest.raises(DataError, match=why):
        judged(code_execution, DOUBLE, **metadata)


def test_a_run_is_told_which_walls_stand_here():
    both = WeightedSum([Part(sql_execution, 0.5, "sql_execution"), Part(code_execution, 0.5, "code_execution")])
    assert describe_reward(both) == f"0.5 × sql_execution + 0.5 × code_execution; {health()}"
    partial = functools.partial(code_execution, partial_credit=True)
    assert describe_reward(partial) == f"the reward function code_execution; {health()}"
