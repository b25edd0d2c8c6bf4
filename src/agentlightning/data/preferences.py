"""Pairs of a better and a worse answer to the same messages, from rollouts of one task."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec

from agentlightning.data.call import Message
from agentlightning.data.conversations import Conversation, conversations, is_answer
from agentlightning.data.trajectory import Trajectory


class Preference(msgspec.Struct, frozen=True):
    """Two answers of one agent to the same messages; `better` came in the rollout with the higher reward."""

    agent: str
    messages: list[Message]
    better: Message
    worse: Message
    tools: list[dict[str, Any]]


def preferences(better: Trajectory, worse: Trajectory, agents: Collection[str] | None = None) -> list[Preference]:
    """One pair for each agent whose first conversations in the two rollouts part at an answer of its model.

    Up to there both had seen the same, so the answers compare; what came later depends on them and is left out.
    """
    found: list[Preference] = []
    others = {c.agent: c for c in reversed(conversations(worse, agents))}
    for agent, mine in {c.agent: c for c in reversed(conversations(better, agents))}.items():
        if agent in others and (pair := _parting(mine, others[agent])):
            found.append(pair)
    return found


def matched(
    rollouts: Sequence[Trajectory], min_margin: float, min_reward: float | None = None
) -> Iterator[tuple[Trajectory, Trajectory]]:
    """Of one task's rollouts the best with the worst, the second best with the second worst, while rewards differ."""
    ranked = sorted(rollouts, key=lambda t: -(t.reward or 0.0))
    for better, worse in zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False):
        high, low = better.reward or 0.0, worse.reward or 0.0
        if high > low and high - low >= min_margin and (min_reward is None or high >= min_reward):
            yield better, worse


def _parting(mine: Conversation, other: Conversation) -> Preference | None:
    for index, (left, right) in enumerate(zip(mine.messages, other.messages, strict=False)):
        if _said(left) == _said(right):
            continue
        is_sampled = index in mine.answered and index in other.answered
        if not (is_sampled and is_answer(left) and is_answer(right)):
            return None
        return Preference(mine.agent, mine.messages[:index], left, right, mine.tools)
    return None


def _said(message: Message) -> Message:
    """The message without the ids of its tool calls, which are drawn anew each time."""
    said = {key: value for key, value in message.items() if key != "tool_call_id"}
    if "tool_calls" in said:
        said["tool_calls"] = [call["function"] for call in said["tool_calls"]]
    return said
