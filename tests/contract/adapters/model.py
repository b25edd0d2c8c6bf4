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


def answer(system: str, texts: list[str], tools: list[str], results: list[str]) -> tuple[str, str, str]:
    """("tool", its name, its argument) or ("text", "", what is said). An agent that can hand over does so."""
    everything = "\n".join([system, *texts])
    if "<runs>" in everything:
        current = texts[-1].split("<instruction", 1)[1].split(">", 1)[1].split("</instruction>")[0].strip()
        return "text", "", f"Idea: shout\n<instruction>\n{current} Always shout.\n</instruction>"
    said = re.findall(r"<q>(.*?)</q>", everything)[-1]
    results = [result for result in results if "assistant" not in result]
    if said.startswith("tool ") and results:
        said = results[-1]
    own = [name for name in tools if not name.startswith("transfer_to")]
    if said.startswith("tool ") and own:
        return "tool", own[0], said.removeprefix("tool ")
    if handover := [name for name in tools if name.startswith("transfer_to")]:
        return "tool", handover[0], ""
    return "text", "", f"LOUD {said.upper()}" if "shout" in system.lower() else said


def chat_model(body: dict[str, Any]) -> Any:
    """The model behind chat completions."""
    messages = body["messages"]
    system = "\n".join(text_of(m.get("content")) for m in messages if m["role"] in ("system", "developer"))
    texts = [text_of(m.get("content")) for m in messages if m["role"] not in ("system", "developer", "tool")]
    results = [text_of(m.get("content")) for m in messages if m["role"] == "tool"]
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    kind, name, said = answer(system, texts, names, results)
    if kind == "text":
        return said
    function = {"name": name, "arguments": json.dumps({"word": said} if said else {})}
    return {"content": None, "tool_calls": [{"id": f"call-{name}", "type": "function", "function": function}]}


def lookup(word: str) -> str:
    """Look a word up."""
    return f"meaning of {word}"


def broken(word: str) -> str:
    """Look a word up, in a book that is lost."""
    raise ValueError(f"no book for {word}")


def responses_model(body: dict[str, Any]) -> Any:
    """The same behind the Responses API."""
    given = body["input"] if isinstance(body["input"], list) else [{"role": "user", "content": body["input"]}]
    system = text_of(body.get("instructions"))
    system += "".join(text_of(item.get("content")) for item in given if item.get("role") in ("system", "developer"))
    texts = [text_of(item.get("content")) for item in given if item.get("role") in ("user", "assistant")]
    results = [text_of(item["output"]) for item in given if item.get("type") == "function_call_output"]
    names = [tool["name"] for tool in body.get("tools") or []]
    kind, name, said = answer(system, texts, names, results)
    if kind == "text":
        part = {"type": "output_text", "text": said, "annotations": [], "logprobs": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
    else:
        arguments = json.dumps({"word": said} if said else {})
        item = {
            "type": "function_call",
            "id": f"fc-{name}",
            "call_id": f"call-{name}",
            "name": name,
            "arguments": arguments,
        }
    usage = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    whole = {"id": "resp-1", "object": "response", "created_at": 1, "status": "completed", "model": body["model"]}
    whole |= {"output": [item], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    if not body.get("stream"):
        return whole
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    events.append({"type": "response.output_item.added", "output_index": 0, "item": item})
    if kind == "text":
        place = {"item_id": "m1", "output_index": 0, "content_index": 0}
        events.append({"type": "response.output_text.delta", "delta": said, "logprobs": [], **place})
    events.append({"type": "response.output_item.done", "output_index": 0, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def messages_model(body: dict[str, Any]) -> Any:
    """The same behind Anthropic's Messages API."""
    blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
    texts = [text_of(m["content"]) for m in body["messages"]]
    results = [text_of(block.get("content")) for block in blocks if block.get("type") == "tool_result"]
    names = [tool["name"] for tool in body.get("tools") or []]
    kind, name, said = answer(text_of(body.get("system")), texts, names, results)
    block: dict[str, Any] = {"type": "text", "text": said}
    if kind == "tool":
        block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": {"word": said}}
    whole = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": [block]}
    whole |= {"stop_reason": "tool_use" if kind == "tool" else "end_turn", "stop_sequence": None}
    whole |= {"usage": {"input_tokens": 9, "output_tokens": 2}}
    if not body.get("stream"):
        return whole
    empty = {"type": "text", "text": ""} if kind == "text" else {**block, "input": {}}
    delta = {"type": "text_delta", "text": said}
    if kind == "tool":
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    return [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"]}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
