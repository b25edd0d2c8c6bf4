"""What counts as tasks, and what is said to whoever gave something else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentlightning.data.task import Task
from agentlightning.errors import DataError, MissingExtra
from agentlightning.trainer.tasks import load_tasks


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def from_file(text: str, name: str) -> list[tuple[Any, Any, dict[str, Any]]]:
    Path(name).write_text(text, encoding="utf-8")
    return [(task.input, task.expected, task.metadata) for task in load_tasks(name)]


def refusal(source: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_tasks(source)
    return str(caught.value)


def refusal_of_file(text: str, name: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return refusal(name)


def test_strings_mappings_and_tasks_mix_in_any_iterable():
    def given() -> Iterator[Any]:
        yield "a"
        yield {"input": "b", "expected": 2, "topic": "sums"}
        yield Task(id="t", input={"x": 1})

    tasks = load_tasks(given())
    assert [(task.input, task.expected) for task in tasks] == [("a", None), ("b", 2), ({"x": 1}, None)]
    assert tasks[1].metadata == {"topic": "sums"} and tasks[2].id == "t"


def test_a_set_is_read_in_the_same_order_every_time():
    assert [task.input for task in load_tasks({"b", "a", "c"})] == ["a", "b", "c"]


class PandasLike:
    """A table as pandas gives it: `columns`, `to_dict`, and NaN for an empty cell."""

    columns = ("Question", "answer", "level")

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [{"Question": "1+1", "answer": 2, "level": 1}, {"Question": 5, "answer": float("nan"), "level": ""}]


class PolarsLike:
    columns = ("prompt", "expected")

    def to_dicts(self) -> list[dict[str, Any]]:
        return [{"prompt": "1+1", "expected": None}]


class ArrowLike:
    column_names = ("input", "id")

    def to_pylist(self) -> list[dict[str, Any]]:
        return [{"input": "1+1", "id": 7}]


class DatasetLike:
    column_names = ("question",)

    def to_list(self) -> list[dict[str, Any]]:
        return [{"question": "1+1"}]


def test_the_columns_of_a_table_have_roles():
    first, second = load_tasks(PandasLike())
    assert (first.input, first.expected, first.metadata) == ("1+1", 2, {"level": 1})
    assert (second.input, second.expected, second.metadata) == ("5", None, {})
    assert [task.input for task in load_tasks(PolarsLike())] == ["1+1"]
    assert [(task.input, task.id) for task in load_tasks(ArrowLike())] == [("1+1", "7")]
    assert [task.input for task in load_tasks(DatasetLike())] == ["1+1"]


@pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson"])
def test_json_lines_hold_a_task_each(name: str):
    text = '\ufeff{"input": "a", "expected": 1, "topic": "x"}\n\n"b"\n{"input": {"x": 1}}\n'
    assert from_file(text, name) == [("a", 1, {"topic": "x"}), ("b", None, {}), ({"x": 1}, None, {})]


def test_a_json_file_holds_a_list():
    assert from_file('["a", {"input": "b"}]', "t.json") == [("a", None, {}), ("b", None, {})]


def test_a_text_file_holds_a_task_each_line():
    assert from_file("什么是强化学习?\r\n\n  b  \n", "t.txt") == [("什么是强化学习?", None, {}), ("b", None, {})]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", 'Question,Answer,topic\n"a, b",1,x\n"c\nd",,\n'),
        ("t.csv", "question;answer;topic\na, b;1;x\n\"c\nd\";;\n"),
        ("t.tsv", 'question\tanswer\ttopic\na, b\t1\tx\n"c\nd"\t\t\n'),
    ],
)  # fmt: skip
def test_csv_and_tsv_are_tables_with_a_header(name: str, text: str):
    [first, second] = from_file(text, name)
    assert first[:2] == ("a, b", "1") and list(first[2].values()) == ["x"]
    assert second == ("c\nd", None, {})


def test_input_goes_before_question_and_the_other_is_metadata():
    assert from_file("question,input\nq,i\n", "t.csv") == [("i", None, {"question": "q"})]


def test_equal_tasks_get_distinct_ids():
    first, second = load_tasks(["a", "a"])
    assert first.id != second.id


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.jsonl", '"a"\n\n{"input": "b"\n', "t.jsonl line 3: this is not JSON (Expecting ',' delimiter, column 14): "
         "'{\"input\": \"b\"'. Each line is one task, such as"),
        ("t.jsonl", '"a"\n5', "t.jsonl line 2: a task is a string, a mapping with 'input', or a Task; this is int"),
        ("t.jsonl", '{"expected": 1}', "t.jsonl line 1: no usable input."),
        ("t.json", '["a",\n]', "t.json line "),
        ("t.json", '{"a": 1}\n{"a": 2}', "t.json line 2: this is not JSON (Extra data). Is it one task a line?"),
        ("t.json", '{"input": "a"}', "t.json: a .json task file holds a list of tasks"),
        ("t.json", '["a", ""]', "t.json task 2: the task is an empty string."),
        ("t.csv", "a,b\n1,2", "t.csv line 2: there is no column named input, question, prompt or query; found a, b."),
        ("t.csv", "input,expected\nx,1\na, b,2", "t.csv line 3: 3 cells, but the header has 2: 'a, b,2'. Put a cell"),
        ("t.csv", 'input\n"a\nb"\n""\n\nc,d', "t.csv line 6: 2 cells, but the header has 1"),
        ("t.csv", "input,expected\n,1", "t.csv line 2: the 'input' cell is empty. Fill it, or remove the row."),
        ("t.csv", 'input\n"a"b', "t.csv line 2: "),
    ],
)  # fmt: skip
def test_a_broken_line_is_named_with_its_text_and_the_remedy(name: str, text: str, expected: str):
    assert refusal_of_file(text, name).startswith(expected)


@pytest.mark.parametrize(("name", "text"), [("t.jsonl", "\n"), ("t.json", ""), ("t.json", "[]"), ("t.csv", "input\n")])
def test_a_file_without_tasks_is_refused(name: str, text: str):
    assert refusal_of_file(text, name).startswith(f"{name} holds no tasks. Put one task on each line, such as")


def test_a_file_that_is_not_utf_8_is_refused_with_the_line():
    Path("t.txt").write_bytes("a\ngrün\n".encode("latin-1"))
    assert refusal("t.txt") == "t.txt line 2: this is not UTF-8 text. Save the file as UTF-8."


def test_a_missing_file_is_told_the_one_that_looks_like_it():
    Path("tasks.jsonl").touch()
    assert refusal("task.jsonl") == "there is no task file 'task.jsonl'. Did you mean 'tasks.jsonl'?"
    assert refusal("tasks.jsnl") == "there is no task file 'tasks.jsnl'. Did you mean 'tasks.jsonl'?"
    assert refusal(Path("zzz")) == "there is no task file 'zzz'. In that folder: tasks.jsonl."
    assert refusal("data/tasks.csv").endswith("(The folder 'data' does not exist either.)")


def test_a_file_of_another_kind_is_refused():
    assert "t.xlsx: a task file ends in .jsonl" in refusal_of_file("x", "t.xlsx")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("什么是强化学习?用一句话解释", "is one string. Give a list of tasks, tasks=[…], or a task file."),
        ("What is 3 km/h in m/s?", "is one string."),
        ("a\nb.txt", "is one string."),
        (Task(id="t", input="a"), "this is one task. Give a list of tasks:  tasks=[task]"),
        ({"input": "a"}, "a mapping with 'input' is one task, or splits without 'train'."),
        (5, "give a list of tasks or the path of a task file, not int."),
        (b"abc", "give a list of tasks or the path of a task file, not bytes."),
        ([], "the list is empty."),
        (["a", ""], "task 2: the task is an empty string."),
        (["a", 5], "task 2: a task is a string, a mapping with 'input', or a Task; this is int: 5"),
    ],
)
def test_what_is_no_list_of_tasks_is_refused_with_the_remedy(source: Any, expected: str):
    assert expected in refusal(source)


def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    Path("t.parquet").touch()
    with pytest.raises(MissingExtra, match=r"pip install 'agentlightning\[parquet\]'"):
        load_tasks("t.parquet")


def test_parquet_is_a_table():
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    parquet.write_table(arrow.table({"question": ["1+1", "2+2"], "answer": [2, None], "level": [1, 2]}), "t.parquet")
    tasks = load_tasks("t.parquet")
    assert [(task.input, task.expected, task.metadata) for task in tasks] == [
        ("1+1", 2, {"level": 1}),
        ("2+2", None, {"level": 2}),
    ]
    Path("broken.parquet").write_bytes(b"x")
    assert refusal("broken.parquet").startswith("broken.parquet is not a Parquet file that can be read")
