"""Runs inside the sandbox: a program a model wrote, then the tests of the task on it.

A program of its own, with the standard library alone. The verdict is a line that carries a word only we know, so a
program that merely exits, or prints what it likes, has passed nothing. The tests are read after the program ran. Still
both live in one process: a program made to deceive its tests could. Where that matters, use cases of standard input and
output, whose expected answers never come in here.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
import types
import unittest
from collections.abc import Callable
from typing import Any


def main() -> None:
    kept = os.fdopen(os.dup(0))  # the program finds an empty standard input
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    solution = types.ModuleType("solution")
    sys.modules["solution"] = solution
    with open("solution.py", encoding="utf-8") as file:
        source = file.read()
    failed: list[str] = []
    num_tests = 1
    try:
        exec(compile(source, "solution.py", "exec"), vars(solution))
    except BaseException as error:  # noqa: BLE001 - also what exits
        failed = [f"the program itself: {_said(error)}"]
    given = json.load(kept)
    if not failed:
        num_tests, failed = _run_tests(given, solution)
    verdict = json.dumps({"num_tests": num_tests, "failed": failed})
    os.write(1, f"\n{given['word']} {verdict}\n".encode())
    os._exit(0)


def _run_tests(given: dict[str, Any], solution: types.ModuleType) -> tuple[int, list[str]]:
    """Statements are one test; each `test_…` function, each unittest method and `check(entry_point)` another."""
    names: dict[str, Any] = {**vars(solution), "__name__": "tests"}
    before = set(names)
    failed: list[str] = []
    _try("tests", lambda: exec(compile(given["tests"], "tests.py", "exec"), names), failed)
    if failed:
        return 1, failed
    functions = {name: names[name] for name in names if name.startswith("test_") and name not in before}
    for name, function in functions.items():
        if isinstance(function, types.FunctionType):
            _try(name, function, failed)
    count = max(1, len(functions))
    if "check" in names and "check" not in before and given["entry_point"]:
        _try("check", lambda: names["check"](names[given["entry_point"]]), failed)
    for kind in [value for name, value in names.items() if name not in before and _is_test_case(value)]:
        result = unittest.TextTestRunner(io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromTestCase(kind))
        count += result.testsRun
        failed += [f"{test.id()}: {text.strip().splitlines()[-1]}" for test, text in result.failures + result.errors]
    return max(count, len(failed)), failed


def _is_test_case(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, unittest.TestCase) and value.__module__ == "tests"


def _try(name: str, work: Callable[[], object], failed: list[str]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - a test that exits has not passed
        failed.append(f"{name}: {_said(error)}")


def _said(error: BaseException) -> str:
    """The error, and the line of the program or its tests that met it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(".py")]
    ours = [frame for frame in frames if frame.filename in ("solution.py", "tests.py")]
    place = f" ({ours[-1].filename} line {ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {error}{place}"[:500]


if __name__ == "__main__":
    main()
