"""Good rollouts as chat examples for supervised fine-tuning, in the form of OpenAI's files or of TRL's datasets."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from agentlightning.data.call import Message
from agentlightning.data.conversations import Conversation, conversations, is_answer
from agentlightning.data.features import SUCCESS_REWARD
from agentlightning.data.selection import LeftOut, Selection, best, judged, leave_out
from agentlightning.data.trajectory import Trajectory
from agentlightning.store.base import Store
from agentlightning.store.exports.base import Choice, ExportReport, chosen, distinct, write_rows

Flavor = Literal["openai", "trl"]
"""openai: `weight` 0 on answers not to be learned, tool arguments as JSON text. trl: no weights (set
`assistant_only_loss`), tool arguments as mappings, which is what chat templates expect."""


async def export_sft(
    store: Store,
    path: str | Path,
    choice: Choice,
    *,
    flavor: Flavor = "openai",
    best_of: int = 1,
    agents: Collection[str] | None = None,
) -> ExportReport:
    """One line `{"messages": […], "tools": […]}` per conversation of the best rollouts of each task.

    Taken are rollouts of split train and live that succeeded with a reward of at least `choice.min_reward` (default
    SUCCESS_REWARD), the `best_of` best of each task, equal ones once. `agents` leaves the others' conversations out.
    Every other rollout is in the report, and in `<path>.left_out.jsonl`, with the reason.
    """
    min_reward = SUCCESS_REWARD if choice.min_reward is None else choice.min_reward
    everything = [t async for t in chosen(store, Choice(where=choice.where, is_masked=choice.is_masked))]
    selection = best(judged(everything), min_reward=min_reward, best_of=best_of)
    rows, left_out = _rows(selection, flavor, agents)
    await write_rows(Path(path), rows, left_out)
    return ExportReport(len(rows), len(everything), left_out)


def examples(
    trajectory: Trajectory, flavor: Flavor = "openai", agents: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The training examples in one rollout, one per conversation. Those that end in an empty answer are left out."""
    return [_example(c, flavor) for c in conversations(trajectory, agents) if is_answer(c.messages[-1])]


def for_trl(message: Message) -> Message:
    """The message with its tool calls' arguments as mappings (text that is no JSON object stays text)."""
    if "tool_calls" not in message:
        return message
    calls = [{**call, "function": _mapped(call["function"])} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def _rows(
    selection: Selection, flavor: Flavor, agents: Collection[str] | None
) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    rows: list[dict[str, Any]] = []
    left_out = list(selection.left_out)
    for trajectory in selection.kept:
        found = examples(trajectory, flavor, agents)
        if not found:
            left_out.append(leave_out(trajectory, "no answer of a model in it"))
        rows += found
    return distinct(rows), left_out


def _example(conversation: Conversation, flavor: Flavor) -> dict[str, Any]:
    if flavor == "trl":
        messages = [for_trl(message) for message in conversation.messages]
    else:
        messages = [_weighed(m, is_learned=i in conversation.answered) for i, m in enumerate(conversation.messages)]
    row: dict[str, Any] = {"messages": messages}
    return row | {"tools": conversation.tools} if conversation.tools else row


def _weighed(message: Message, *, is_learned: bool) -> Message:
    return message if is_learned or message["role"] != "assistant" else {**message, "weight": 0}


def _mapped(function: dict[str, Any]) -> dict[str, Any]:
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return function
    return {**function, "arguments": arguments} if isinstance(arguments, dict) else function
