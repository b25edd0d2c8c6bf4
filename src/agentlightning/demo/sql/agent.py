"""Answers questions about a small database, with a language model that can look up columns and run SQL."""

import functools
import json
import os
import sqlite3
import threading
from contextlib import closing
from typing import Any

from openai import OpenAI

MAX_TURNS = 5

SYSTEM = "You answer questions about a database."

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "schema",
            "description": "Tell which columns hold these things",
            "parameters": {
                "type": "object",
                "properties": {"words": {"type": "array", "items": {"type": "string"}}},
                "required": ["words"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "sql",
            "description": "Run a query",
            "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
        },
    },
]


@functools.cache
def client() -> OpenAI:
    return OpenAI()


one_at_a_time = threading.Lock()  # so that many questions at once still share one client


def schema(connection: sqlite3.Connection, words: list[str]) -> str:
    names = dict(connection.execute("select holds, name from columns").fetchall())
    return json.dumps({word: names.get(word, "unknown") for word in words})


def sql(connection: sqlite3.Connection, query: str) -> str:
    rows = connection.execute(query).fetchmany(20)
    return "\n".join(", ".join(map(str, row)) for row in rows) or "no rows"


def use_tool(connection: sqlite3.Connection, name: str, arguments: str) -> str:
    try:
        return {"schema": schema, "sql": sql}[name](connection, **json.loads(arguments))
    except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
        return f"error: {error}"


def answer(question: str, database: str) -> str:
    messages: list[Any] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    with one_at_a_time:
        openai = client()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(database)
        for _ in range(MAX_TURNS):
            response = openai.chat.completions.create(
                model=os.environ.get("DEMO_MODEL", "gpt-4o-mini"), messages=messages, tools=TOOLS, temperature=0
            )
            message = response.choices[0].message
            if not message.tool_calls:
                return (message.content or "").strip()
            messages.append(message.model_dump(exclude_none=True))
            for call in message.tool_calls:
                if call.type == "function":
                    result = use_tool(connection, call.function.name, call.function.arguments)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return ""
