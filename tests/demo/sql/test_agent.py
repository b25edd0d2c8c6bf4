"""The text-to-SQL agent is an ordinary program: any endpoint that speaks chat completions will do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers import FakeOpenAI

from agentlightning.demo.sql import agent

DATABASE = (
    "create table boats (c3 integer, age integer); insert into boats values (10, 1), (20, 2), (30, 3);"
    "create table columns (holds text, name text); insert into columns values ('price', 'c3'), ('age', 'age');"
)
QUESTION = "What is the largest price of boats with age below 3?"


def call(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"content": None, "tool_calls": [{"id": f"call_{name}", "type": "function", "function": function}]}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    with FakeOpenAI("unknown") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        agent.client.cache_clear()
        yield server
        agent.client().close()
        agent.client.cache_clear()


def play(server: FakeOpenAI, *answers: Any) -> list[str]:
    """Let the model say these in turn; returns what tools answered."""
    said = iter(answers)
    server.reply(lambda body: next(said))
    agent.answer(QUESTION, DATABASE)
    return [m["content"] for m in server.requests[-1].json["messages"] if m["role"] == "tool"]


def test_it_looks_up_columns_runs_queries_and_gives_the_answer(model: FakeOpenAI):
    said = iter(
        [call("schema", words=["price", "age"]), call("sql", query="select max(c3) from boats where age < 3"), "20"]
    )
    model.reply(lambda body: next(said))
    assert agent.answer(QUESTION, DATABASE) == "20"
    last = model.requests[-1].json["messages"]
    assert [m["content"] for m in last if m["role"] == "tool"] == ['{"price": "c3", "age": "age"}', "20"]
    assert [m["content"] for m in last[:2]] == [agent.SYSTEM, QUESTION]


def test_a_failing_query_is_told_to_the_model(model: FakeOpenAI):
    assert play(model, call("sql", query="select max(price) from boats"), "unknown") == ["error: no such column: price"]


@pytest.mark.parametrize("wrong", [call("drop"), call("sql", text="select 1"), call("schema", words=3)])
def test_a_call_that_makes_no_sense_is_told_to_the_model(model: FakeOpenAI, wrong: Any):
    [told] = play(model, wrong, "unknown")
    assert told.startswith("error: ")


def test_it_gives_up_after_five_turns(model: FakeOpenAI):
    model.reply(lambda body: call("sql", query="select 1"))
    assert agent.answer(QUESTION, DATABASE) == ""
    assert len(model.requests) == agent.MAX_TURNS


def test_one_question_cannot_change_the_database_of_the_next(model: FakeOpenAI):
    assert play(model, call("sql", query="delete from boats"), "done") == ["no rows"]
    assert play(model, call("sql", query="select count(*) from boats"), "3") == ["3"]
