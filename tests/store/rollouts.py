"""Rollouts to export: an agent that looks something up and answers, well or badly."""

from __future__ import annotations

from typing import Any

from agentlightning.data.call import Call, Message, Reply, Usage
from agentlightning.data.trajectory import Reward, Step, Trajectory
from agentlightning.store.base import Store
from agentlightning.store.trajectories import trajectory_records

TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
SYSTEM: Message = {"role": "system", "content": "Be brief."}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: Message) -> Message:
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def asks(city: str, id: str = "c1") -> Message:
    arguments = f'{{"city": "{city}"}}'
    return {"id": id, "type": "function", "function": {"name": "look_up", "arguments": arguments}}


def told(text: str, id: str = "c1") -> Message:
    return {"role": "tool", "tool_call_id": id, "content": text}


def model(rollout_id: str, index: int, history: list[Message], answer: Message, **fields: Any) -> Step:
    fields = {"agent": "main", "endpoint": "https://api.openai.com/v1/chat/completions"} | fields
    call = Call(fields["agent"], "gpt-5", history, tools=TOOLS, params={"temperature": 0.5})
    reason = "tool_calls" if answer.get("tool_calls") else "stop"
    return Step(
        id=f"s{index}",
        rollout_id=rollout_id,
        index=index,
        kind="model",
        started_at=100.0 + index,
        latency_seconds=0.5,
        call=call,
        reply=Reply(answer, reason, Usage(10, 5), "gpt-5-2025"),
        status=200,
        **fields,
    )


def tool(rollout_id: str, index: int, **fields: Any) -> Step:
    fields = {"name": "look_up", "arguments": {"city": "Oslo"}, "result": {"sky": "grey"}} | fields
    return Step(
        id=f"s{index}", rollout_id=rollout_id, index=index, kind="tool", agent="main", started_at=100.0 + index,
        latency_seconds=0.1, **fields,
    )  # fmt: skip


def weather(id: str, answer: str = "Grey.", reward: float | None = 1.0, **fields: Any) -> Trajectory:
    """Two calls with a tool in between, in a rollout of task `weather`."""
    ask, first = [SYSTEM, user("Sky in Oslo?")], assistant(None, asks("Oslo"))
    steps = [
        model(id, 0, ask, first),
        tool(id, 1),
        model(id, 2, [*ask, {**first, "refusal": None}, told("grey")], assistant(answer)),
    ]
    return rollout(id, output=answer, reward=reward, steps=steps, usage=Usage(20, 10), **fields)


def rollout(id: str, **fields: Any) -> Trajectory:
    fields = {
        "agent_id": "main",
        "task": "weather",
        "input": "Sky in Oslo?",
        "timestamp": 100.0,
        "seconds": 4.0,
    } | fields
    reward = fields.get("reward")
    rewards = [] if reward is None else [Reward(reward, "as expected" if reward else "wrong")]
    return Trajectory(id=id, **({"rewards": rewards} | fields))


async def add(store: Store, *trajectories: Trajectory) -> None:
    await store.append([record for item in trajectories for record in trajectory_records(item, with_steps=True)])
