"""The smallest engine that a reward model can be trained on: one weight per word, Bradley–Terry by gradient steps."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from agentlightning.data.sample import Sample
from agentlightning.engine.base import Learning, Pair, Update


class LinearEngine:
    """Encodes, learns `reward_model` and rates; it samples nothing."""

    model = "linear"
    max_context_tokens = 10_000

    def __init__(self) -> None:
        self.weights: dict[str, dict[int, float]] = {}
        self.learned: list[Learning] = []

    async def encode(
        self, messages: Sequence[Any], tools: Sequence[Mapping[str, Any]] = (), *, agent: str = "", learned: Any = None
    ) -> Sample:
        prompt, answer = (_ids(message["content"]) for message in messages)
        return Sample(
            prompt_ids=prompt, completion_ids=answer, mask=[1] * len(answer), agent=agent, rollout_id="", segment_id=0
        )

    async def update(self, samples: Sequence[Any], *, adapter: str, learning: Learning) -> Update:
        self.learned.append(learning)
        weights, size = self.weights.setdefault(adapter, {}), math.ceil(len(samples) / learning.num_minibatches)
        loss = 0.0
        for start in range(0, len(samples), size):
            for pair in samples[start : start + size]:
                assert isinstance(pair, Pair) and learning.loss == "reward_model"
                odds = _rating(weights, pair.better) - _rating(weights, pair.worse)
                loss += math.log1p(math.exp(-odds))
                step = learning.learning_rate / (1 + math.exp(odds))
                for ids, sign in ((pair.better.completion_ids, 1), (pair.worse.completion_ids, -1)):
                    for word in ids:
                        weights[word] = weights.get(word, 0.0) + sign * step
        return Update(metrics={"loss": loss / len(samples)}, num_steps=learning.num_minibatches)

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        return [_rating(self.weights.get(adapter, {}), sample) for sample in samples]


def _ids(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) for word in text.split()]


def _rating(weights: Mapping[int, float], sample: Sample) -> float:
    return math.fsum(weights.get(word, 0.0) for word in sample.completion_ids)
