"""The model all adapters are tried with: it repeats the question, shouts when told to, and calls a tool when asked to.

A question stands between `<q>` and `</q>`, wherever the framework puts it. "tool WORD" makes the model call its first
tool with WORD, once, and repeat what the tool said. Optimiser and judge are answered as well.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentlightning import Task

WRITER = "You are the writer. You repeat what you are told."
CRITIC = "You are the critic. You repeat what you are told."
WORDS = "apple bread chair dream eagle flame grape house ivory jelly knife lemon mango night ocean piano".split()


def question(text: str) -> str:
    return f"<q>{text}</q>"


def loud_tasks(count: int = 24) -> list[Task]:
    said = [f"{WORDS[i % 16]} {i}" for i in range(count)]
    return [Task(f"t{i}", question(text), expected=f"LOUD {text.upper()}") for i, text in enumerate(said)]


def text_of(content: Any) -> str:
    """A message's content in any dialect, as text."""
    if isinstance(content, str):
        return content
    return json.dumps(content, ensure_ascii=False) if content else ""


def answer(system: str, texts: list[str], has_tools: bool, tool_results: list[str]) -> tuple[str, str]:
    """("tool", argument) or ("text", answer)."""
    everything = "\n".join([system, *texts])
    if "<runs>" in everything:
        current = texts[-1].split("<instruction", 1)[1].split(">", 1)[1].split("</instruction>")[0].strip()
        return "text", f"Idea: shout\n<instruction>\n{current} Always shout.\n</instruction>"
    found = re.findall(r"<q>(.*?)</q>", everything)
    said = found[-1] if found else ""
    if said.startswith("tool ") and has_tools and not tool_results:
        return "tool", said.removeprefix("tool ")
    if said.startswith("tool ") and tool_results:
        said = tool_results[-1]
    return "text", f"LOUD {said.upper()}" if "shout" in system.lower() else said


def chat_model(body: dict[str, Any]) -> Any:
    """The model behind chat completions."""
    messages = body["messages"]
    system = "\n".join(text_of(m.get("content")) for m in messages if m["role"] in ("system", "developer"))
    texts = [text_of(m.get("content")) for m in messages if m["role"] not in ("system", "developer", "tool")]
    results = [text_of(m.get("content")) for m in messages if m["role"] == "tool"]
    kind, said = answer(system, texts, bool(body.get("tools")), results)
    if kind == "text":
        return said
    function = body["tools"][0]["function"]["name"]
    call = {"id": "call-1", "type": "function", "function": {"name": function, "arguments": json.dumps({"word": said})}}
    return {"content": None, "tool_calls": [call]}


def lookup(word: str) -> str:
    """Look a word up."""
    return f"meaning of {word}"


def broken(word: str) -> str:
    """Look a word up, in a book that is lost."""
    raise ValueError(f"no book for {word}")
