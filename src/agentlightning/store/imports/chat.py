"""Chat logs, one conversation a line: `{"messages": […]}`, with reward, metadata, tools, model and id where known."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

from agentlightning.data.call import Call, Message, Reply, message_text
from agentlightning.data.trajectory import Reward, Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.store.imports.base import content_id, json_objects, live, seconds

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_KNOWN = frozenset(
    {"messages", "tools", "model", "id", "agent", "reward", "score", "reason", "expected", "metadata", "timestamp"}
)


def read_chat(path: str | Path, *, agent: str = "imported") -> Generator[Trajectory]:
    """One trajectory per line of OpenAI-style chat logs; every assistant message is a model step.

    `input` is the first user message, `output` the last answer's text. `reward` (or `score`) with `reason` becomes the
    reward; unknown fields join `metadata`. Without `id` the content gives one, so equal lines are one rollout; without
    `timestamp` the file's own counts. DataError names the line that is broken.
    """
    path = Path(path)
    for where, line in json_objects(path):
        yield _trajectory(line, where, path, agent)


def _trajectory(line: dict[str, Any], where: str, path: Path, agent: str) -> Trajectory:
    messages = _messages(line, where)
    id = str(line.get("id") or content_id("r", line))
    agent = str(line.get("agent") or agent)
    started_at = seconds(line.get("timestamp")) or path.stat().st_mtime
    asked = next((message_text(m) for m in messages if m["role"] == "user"), "") or message_text(messages[0])
    if not asked.strip():
        raise DataError(f"{where}: no user message with text, so there is no input. Nothing was imported.")
    steps = [
        _step(messages[:index], message, line, f"{id}-{index}", id, number, agent, started_at)
        for number, (index, message) in enumerate((i, m) for i, m in enumerate(messages) if m["role"] == "assistant")
    ]
    answer = next((message_text(m) for m in reversed(messages) if m["role"] == "assistant"), None)
    rewards = _rewards(line, where)
    return live(
        Trajectory(
            id=id,
            agent_id=agent,
            task="",
            input=asked,
            output=answer,
            reward=rewards[0].value if rewards else None,
            timestamp=started_at,
            expected=line.get("expected"),
            metadata=_metadata(line, where),
            steps=steps,
            rewards=rewards,
        )
    )


def _step(
    history: list[Message],
    answer: Message,
    line: dict[str, Any],
    id: str,
    rollout_id: str,
    index: int,
    agent: str,
    started_at: float,
) -> Step:
    model = str(line.get("model") or "")
    return Step(
        id=id,
        rollout_id=rollout_id,
        index=index,
        kind="model",
        agent=agent,
        started_at=started_at,
        call=Call(agent, model, history, tools=line.get("tools") or []),
        reply=Reply({key: value for key, value in answer.items() if key != "weight"}, model=model),
        dialect="chat",
    )


def _messages(line: dict[str, Any], where: str) -> list[Message]:
    messages = line.get("messages")
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f'{where}: no "messages". Nothing was imported. Expected {{"messages": [{{"role": "user", "content": …}}, '
            f'{{"role": "assistant", …}}]}}; found keys {sorted(line)}.'
        )
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or message.get("role") not in _ROLES:
            raise DataError(
                f"{where}: message {number} has no role of {', '.join(sorted(_ROLES))}: {message!r:.80}. "
                "Nothing was imported."
            )
    return messages


def _rewards(line: dict[str, Any], where: str) -> list[Reward]:
    value = line.get("reward", line.get("score"))
    if value is None:
        return []
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: the reward must be a number, not {value!r:.40}. Nothing was imported.")
    reason = line.get("reason")
    return [Reward(float(value), None if reason is None else str(reason), source="emitted")]


def _metadata(line: dict[str, Any], where: str) -> dict[str, Any]:
    metadata = line.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise DataError(f"{where}: metadata must be an object, not {metadata!r:.40}. Nothing was imported.")
    return {**metadata, **{key: value for key, value in line.items() if key not in _KNOWN}}
