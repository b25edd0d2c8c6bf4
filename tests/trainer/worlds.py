"""A model whose answers depend on its prompt, so that whole training runs can be watched on a real server.

It answers "LOUD" and the question in upper case when the system text says "shout", else the question as it is. As
optimiser it proposes to shout; as judge it likes upper case.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
from tests.servers import FakeOpenAI

from agentlightning import Task

CLIENT = httpx.Client(verify=False)
"""One for all: making a TLS context costs more than a whole rollout."""
PROMPT = "You repeat what you are told."


def shouting_model(body: dict[str, Any]) -> str:
    text = "\n".join(str(message.get("content")) for message in body["messages"])
    last = str(body["messages"][-1]["content"])
    if "<rubric>" in text:
        output = last.split("<output>")[1].split("</output>")[0].strip()
        return json.dumps({"score": 1.0 if output.isupper() else 0.2, "reason": "loud is good"})
    if "<runs>" in text:
        current = last.split("<instruction", 1)[1].split(">", 1)[1].split("</instruction>")[0].strip()
        return f"Idea: shout\n<instruction>\n{current} Always shout.\n</instruction>"
    return f"LOUD {last.upper()}" if "shout" in text.lower() else last


def repeat(server: FakeOpenAI, question: str, **extra: Any) -> str:
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
    url = f"{server.base_url}/chat/completions"
    response = CLIENT.post(url, json={"model": "m", "messages": messages, **extra}, timeout=10)
    response.raise_for_status()
    return response.json()["choices"][0]["message"]["content"]


WORDS = (
    "apple bread chair dream eagle flame grape house ivory jelly knife lemon mango night ocean piano queen river stone "
    "table uncle violin water xenon yacht zebra amber basil cedar daisy"
).split()


def loud_tasks(count: int = 30) -> list[Task]:
    return [Task(f"t{i}", f"{WORDS[i % 30]} {i}", expected=f"LOUD {WORDS[i % 30].upper()} {i}") for i in range(count)]
