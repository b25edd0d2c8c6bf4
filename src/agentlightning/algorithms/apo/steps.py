"""A run's steps as lines, one for each answer, tool call and tool result; and where two runs first part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from agentlightning.algorithms.apo.evidence import tool_calls
from agentlightning.data.call import message_text
from agentlightning.data.trajectory import Step, Trajectory


class Told(msgspec.Struct, frozen=True):
    """A line, and what kind of act it is: the same act on another input is no difference between two runs."""

    act: str
    line: str


_END = Told("", "the run was over")


def parting(steps: Sequence[Told], others: Sequence[Told]) -> tuple[str, str] | None:
    """The first step at which two runs do different things, as each does it; None where they take the same way."""
    for here, there in zip_longest(steps, others, fillvalue=_END):
        if here.act != there.act:
            return here.line, there.line
    return None


def steps_of(t: Trajectory) -> list[Told]:
    """What a run did, in order; results only seen in the next call's messages included."""
    recorded = {step.name for step in t.steps if step.kind != "model"}
    names: dict[str, str] = {}
    several = len({step.agent for step in t.model_steps}) > 1
    told: list[Told] = []
    for step in sorted(t.steps, key=lambda step: step.index):
        if step.kind != "model":
            told.append(_result(f"{step.kind} {step.name}", step.error, step.result))
            continue
        told += _late_results(step, names, recorded)
        told += _model_lines(step, f"model ({step.agent})" if several else "model")
        if step.reply is not None:
            names |= {id: name for id, name, _ in tool_calls(step.reply.message)}
    return told


def _result(name: str, error: str | None, result: Any) -> Told:
    return Told(f"{name} fails", f"{name} → error: {error}") if error else Told(name, f"{name} → {_plain(result)}")


def _model_lines(step: Step, who: str) -> Iterator[Told]:
    if step.reply is None:
        if step.error:
            yield Told(f"{who} fails", f"{who} → error: {step.error}")
        return
    calls = tool_calls(step.reply.message)
    if step.reply.text:
        # What is said along with a call is no act of its own.
        yield Told(f"{who} calls {calls[0][1]}" if calls else who, f"{who} → {_quoted(step.reply.text)}")
    for _, name, given in calls:
        yield Told(f"{who} calls {name}", f"{who} → tool {name}({given})")


def _late_results(step: Step, names: dict[str, str], recorded: set[str | None]) -> Iterator[Told]:
    """Tool results that reached the model in this call; told once, and not when the tool itself was recorded."""
    for message in step.call.messages if step.call is not None else []:
        name = names.pop(str(message.get("tool_call_id", "")), None) if message.get("role") == "tool" else None
        if name is not None and name not in recorded:
            yield Told(f"tool {name}", f"tool {name} → {message_text(message)}")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
