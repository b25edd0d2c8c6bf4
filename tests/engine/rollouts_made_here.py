"""Random samples for the learner's tests, and its gradients without a step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec
from tests.models_made_here import make_model

from agentlightning.data.sample import Sample, Turn
from agentlightning.engine.base import Learning, Pair
from agentlightning.engine.torch import losses
from agentlightning.engine.torch.items import groups
from agentlightning.engine.torch.learner import Learner
from agentlightning.engine.torch.reading import Reader, reads_whole_rows
from agentlightning.engine.torch.weights import AdapterPlan, Weights


def learner(method: str = "full", *, seed: int = 0, **settings: Any) -> Learner:
    """On a small random model."""
    plan = AdapterPlan(method=method, **settings)  # type: ignore[arg-type]
    return Learner(Weights(make_model("qwen"), plan=plan, seed=seed), seed=seed)


def rollout(draw: random.Random, name: str, *, num_turns: int = 3, advantage: float | None = None) -> Sample:
    """One merged row: answers and observations in turns, every answer with an advantage of its own."""
    ids: list[int] = []
    mask: list[int] = []
    turns: list[Turn] = []
    for step in range(num_turns):
        length = draw.randrange(2, 7)
        turns.append(Turn(step, len(ids), len(ids) + length))
        seen = draw.randrange(1, 5) if step < num_turns - 1 else 0
        ids += [draw.randrange(300) for _ in range(length + seen)]
        mask += [1] * length + [0] * seen
    sample = Sample(
        prompt_ids=[draw.randrange(300) for _ in range(draw.randrange(2, 9))],
        completion_ids=ids,
        mask=mask,
        logprobs=[bit * draw.uniform(-7, -4) for bit in mask],
        agent="a",
        rollout_id=name,
        segment_id=0,
        turns=turns,
    )
    by_step = {step: draw.gauss(0, 1) if advantage is None else advantage for step in range(num_turns)}
    return sample.with_turn_advantages(by_step)


def rollouts(count: int = 6, *, seed: int = 0, num_turns: int | None = None) -> list[Sample]:
    draw = random.Random(seed)
    return [rollout(draw, f"r{index}", num_turns=num_turns or draw.randrange(1, 4)) for index in range(count)]


def pairs(count: int = 4, *, seed: int = 0) -> list[Pair]:
    draw = random.Random(seed)
    found: list[Pair] = []
    for index in range(count):
        better, worse = (rollout(draw, f"r{index}{side}", num_turns=1) for side in "bw")
        found.append(Pair(better, msgspec.structs.replace(worse, prompt_ids=better.prompt_ids)))
    return found


def unmerged(sample: Sample) -> list[Sample]:
    """The same rollout as one row for each answer, as when no two contexts share a prefix."""
    rows: list[Sample] = []
    for index, turn in enumerate(sample.turns):
        part = slice(turn.start, turn.end)
        rows.append(
            msgspec.structs.replace(
                sample,
                prompt_ids=[*sample.prompt_ids, *sample.completion_ids[: turn.start]],
                completion_ids=sample.completion_ids[part],
                mask=sample.mask[part],
                logprobs=(sample.logprobs or [])[part],
                advantages=(sample.advantages or [])[part],
                segment_id=index,
                turns=[Turn(turn.step, 0, turn.end - turn.start)],
            )
        )
    return rows


def gradient(
    by: Learner,
    samples: Sequence[Sample] | Sequence[Pair],
    learning: Learning,
    *,
    adapter: str = "a",
) -> list[Any]:
    """Of the first step's loss: all passes are run, and the step is not taken."""
    loss = losses.load(learning.loss, learning.options)
    entries = groups(samples, loss, learning.loss)
    passes = by.updating(samples, adapter=adapter, learning=learning)
    for _ in Reader(by.weights).passes(entries, learning.max_tokens_per_pass, whole=reads_whole_rows(loss)):
        next(passes)
    found = [None if p.grad is None else p.grad.clone() for p in by.weights.parameters(adapter)]
    passes.close()
    return found


def assert_close(some: Sequence[Any], others: Sequence[Any], *, tolerance: float = 1e-5) -> None:
    """Relative to the largest entry of all; and they are not all zero."""
    import torch

    pairs = [(a, b) for a, b in zip(some, others, strict=True) if a is not None or b is not None]
    left = torch.cat([(torch.zeros_like(b) if a is None else a).flatten() for a, b in pairs])
    right = torch.cat([(torch.zeros_like(a) if b is None else b).flatten() for a, b in pairs])
    scale = float(right.abs().max())
    assert scale > 0
    assert float((left - right).abs().max()) <= tolerance * scale
