"""What every reward function must keep, tried on rollouts of each kind that a run can hand it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from agentlightning.contracts.broken import expect
from agentlightning.data.call import Call, Reply, Usage
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Reward, Step, Trajectory
from agentlightning.errors import DataError
from agentlightning.rewards.base import RewardFunction, evaluate_reward

Case = tuple[Task, Trajectory]


def check_reward(function: RewardFunction, cases: Sequence[Case] = ()) -> None:
    """Raises ContractBroken unless the function keeps these promises on ours and your `cases`.

    It gives a finite number, (number, reason), a Reward, or None for what it cannot judge; it raises on no rollout,
    also not on one that failed, gave nothing, or gave a list or a mapping; asked twice, it says the same.
    """
    for label, task, trajectory in _cases(cases):
        first, second = (_asked(function, task, trajectory, label) for _ in range(2))
        value, again = (given.value if given else None for given in (first, second))
        expect(value == again, f"A reward says the same of the same rollout ({label}).", f"{value}, then {again}")


def _asked(function: RewardFunction, task: Task, trajectory: Trajectory, label: str) -> Reward | None:
    try:
        return asyncio.run(evaluate_reward(function, task, trajectory))
    except DataError as error:
        expect(False, f"A reward judges every rollout or returns None, also for {label}.", str(error))
        raise


def _cases(own: Sequence[Case]) -> Iterable[tuple[str, Task, Trajectory]]:
    plain = Task("t1", "What is 2 + 2?", expected="4")
    yield "a right answer", plain, _rollout("4")
    yield "a wrong answer", plain, _rollout("5")
    yield "an answer in many words", plain, _rollout("I think that the answer is 4.")
    yield "an empty answer", plain, _rollout("")
    yield "no answer (None)", plain, _rollout(None)
    yield "a rollout that failed", plain, _rollout(None, status="failed", error="ValueError: boom")
    yield "a rollout that ran out of time", plain, _rollout(None, status="timeout", error="no answer after 120 s")
    yield "an answer that is a mapping", plain, _rollout({"answer": 4})
    yield "an answer that is a list", plain, _rollout([4, "4"])
    yield "a task that expects nothing", Task("t2", "Say hello."), _rollout("hello")
    yield "an answer in another script", Task("t3", "二加二？", expected="4"), _rollout("答案：4 ✓")
    for number, (task, trajectory) in enumerate(own, start=1):
        yield f"your case {number}", task, trajectory


def _rollout(output: Any, **fields: Any) -> Trajectory:
    call = Call(agent="agent", model="m", messages=[{"role": "user", "content": "?"}])
    reply = Reply(message={"role": "assistant", "content": str(output)}, usage=Usage(input_tokens=3, output_tokens=1))
    step = Step(id="s", rollout_id="r", index=0, kind="model", agent="agent", started_at=0.0, call=call, reply=reply)
    return Trajectory(
        id="r", agent_id="agent", task="t", input="?", output=output, timestamp=0.0, steps=[step], **fields
    )
