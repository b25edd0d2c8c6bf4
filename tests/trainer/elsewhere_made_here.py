"""An engine that learns elsewhere, without verl: it takes learning over whole, and asks for rollouts as verl does."""

from __future__ import annotations

import asyncio
from typing import Any

from agentlightning.engine.base import Handoff, Learning, Order, Play, Played, Tell
from agentlightning.engine.torch.settings import torch_engine

played: list[tuple[Order, Played]] = []
"""What was asked for in this process, and what came back."""


class Elsewhere:
    """The torch engine's own methods, and `LearnsElsewhere` over them: group-centred REINFORCE."""

    def __init__(self, model: str, **options: Any) -> None:
        self._engine = torch_engine(model, **options)
        self._live: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def live(self, num_updates: int) -> str:
        return f"elsewhere-{num_updates}"

    def sample(self, call: Any, *, weights: str = "", rollout_id: str = "") -> Any:
        return self._engine.sample(call, weights=self._live.get(weights, weights), rollout_id=rollout_id)

    async def hand_off(self, work: Handoff, play: Play, tell: Tell) -> dict[int, str]:
        await self._engine.start_from(work.adapter, work.start)
        kept: dict[int, str] = {}
        self._live[self.live(0)] = work.start
        learning = Learning(loss="cispo", learning_rate=work.learning_rate, options={"temperature": work.temperature})
        for num in range(1, work.num_rounds + 1):
            tasks = work.training[: work.batch_size]
            orders = [Order(task.id, num - 1, draw) for task in tasks for draw in range(work.group_size)]
            found = await asyncio.gather(*(play(order) for order in orders))
            played.extend(zip(orders, found, strict=True))
            await self._engine.update(_samples(found, work.group_size), adapter=work.adapter, learning=learning)
            self._live[self.live(num)] = kept[num] = await self._engine.snapshot(work.adapter)
            tell(f"round {num}", {})
            if num % work.evaluate_every == 0:
                await asyncio.gather(*(play(Order(task.id, num, 0, True)) for task in work.validation))
        return kept


def _samples(found: list[Played], group_size: int) -> list[Any]:
    samples: list[Any] = []
    for start in range(0, len(found), group_size):
        group = [one for one in found[start : start + group_size] if one.reward is not None]
        mean = sum(one.reward or 0.0 for one in group) / max(1, len(group))
        samples += [s.with_advantage((one.reward or 0.0) - mean) for one in group for s in one.samples]
    return samples
