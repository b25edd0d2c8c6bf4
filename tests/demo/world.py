"""A small improvement loop for the tests: run tickets, ask for a better prompt, keep it when validation says so."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import NamedTuple

from agentlightning.data.task import Task
from agentlightning.demo import agent
from agentlightning.demo.model.reply import answer
from agentlightning.demo.model.request import Request

TEMPLATE = agent.SYSTEM.format(shop="⟦shop⟧", date="⟦date_1⟧")


class Run(NamedTuple):
    ticket: str
    steps: list[str]
    output: str
    expected: str

    @property
    def is_passed(self) -> bool:
        return same(self.output, self.expected)


def same(output: str, expected: str) -> bool:
    return output.strip().strip(".").lower() == expected


def run(template: str, task: Task) -> Run:
    """The agent's loop against the model itself, without HTTP: what the tests of the wire show to be the same."""
    assert isinstance(task.input, str)
    system = template.replace("⟦shop⟧", agent.SHOP).replace("⟦date_1⟧", "2025-03-04")
    messages = [{"role": "system", "content": system}, {"role": "user", "content": task.input}]
    steps: list[str] = []
    reply = answer(Request(messages, tools=agent.TOOLS))
    while reply.tool_calls:
        call = reply.tool_calls[0]
        result = json.dumps(agent.lookup_order(**json.loads(call.arguments)))
        steps += [f"model → tool {call.name}({call.arguments})", f"tool {call.name} → {result}"]
        messages = [*messages, {"role": "tool", "tool_call_id": call.id, "content": result}]
        reply = answer(Request(messages, tools=agent.TOOLS))
    text = reply.text or ""
    return Run(task.input, [*steps, f'model → "{text}"'], text, task.expected)


def success(template: str, tasks: Sequence[Task]) -> float:
    return sum(run(template, task).is_passed for task in tasks) / len(tasks)


def reflection(template: str, runs: Sequence[Run], rejected: Sequence[str] = (), focus: str = "") -> str:
    """What an optimiser is sent."""
    parts = [
        "You improve the instructions of an AI agent.",
        f'<instruction agent="triage" kind="system" max_characters="2000">\n{template}\n</instruction>',
        "<tools>\n- lookup_order(order_id): Look up an order's status\n</tools>",
        "<runs>",
        *map(shown, runs),
        "</runs>",
    ]
    if rejected:
        parts.append("<rejected>\n" + "\n".join(f"- {idea}" for idea in rejected) + "\n</rejected>")
    if focus:
        parts.append(f"<focus>{focus}</focus>")
    parts.append("Reply with your idea, then the complete new text between <instruction> and </instruction>.")
    return "\n".join(parts)


def shown(one: Run) -> str:
    outcome, score = ("passed", 1.0) if one.is_passed else ("failed", 0.0)
    reason = "" if one.is_passed else f"\n<reason>expected {one.expected!r}, got {one.output!r}</reason>"
    return (
        f'<run outcome="{outcome}" score="{score:.2f}">\n<input>{one.ticket}</input>\n<steps>\n'
        + "\n".join(one.steps)
        + f"\n</steps>\n<output>{one.output}</output>\n<expected>{one.expected}</expected>{reason}\n</run>"
    )


def ask(text: str, seed: int = 0) -> str:
    return answer(Request([{"role": "user", "content": text}], seed=seed)).text or ""


def proposed(reply: str) -> str:
    return reply.split("<instruction>\n")[1].split("\n</instruction>")[0]


def added(old: str, new: str) -> list[str]:
    return [line for line in new.splitlines() if line not in old.splitlines()]


def improve(tasks: dict[str, list[Task]], *, rounds: int, seed: int) -> list[float]:
    """Held-out success after each round of: run 8 tickets, ask for a new prompt, keep it when validation rises."""
    draw = random.Random(seed)
    kept, best = TEMPLATE, success(TEMPLATE, tasks["validation"])
    curve, rejected, waiting = [success(TEMPLATE, tasks["test"])], list[str](), list[Task]()
    for number in range(rounds):
        waiting = waiting or draw.sample(tasks["train"], len(tasks["train"]))
        batch, waiting = waiting[:8], waiting[8:]
        new = proposed(ask(reflection(kept, [run(kept, task) for task in batch], rejected), seed * 1000 + number))
        reached = success(new, tasks["validation"])
        if reached > best:
            kept, best = new, reached
        elif lines := added(kept, new):
            rejected.append(" ".join(lines))
        curve.append(success(kept, tasks["test"]))
    return curve
