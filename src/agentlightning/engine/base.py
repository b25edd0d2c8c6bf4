"""What holds weights, seen from outside: it samples answers, learns from samples, and keeps versions. No torch here.

Weights go by name. `""` is the base model as it was loaded. An *adapter* (one for each agent that learns) is what
`update` changes; its name means its weights as they are now. A *version* (`w-` and a content hash) is an adapter's
weights at one moment: it never changes, it may be sampled while the adapter learns on, and a policy names it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from agentlightning.data.call import Call, Message, Reply
from agentlightning.data.sample import Sample
from agentlightning.registry import Registry

VERSION_PREFIX = "w-"

ENGINES = Registry(
    "engine",
    {
        "torch": "agentlightning.engine.torch.settings:torch_engine",
        "vllm": "agentlightning.engine.vllm.engine:VllmEngine",
        "unsloth": "agentlightning.engine.unsloth:unsloth_engine",
        "verl": "agentlightning.engine.verl.engine:VerlEngine",
    },
)


class Pair(msgspec.Struct, frozen=True):
    """Two answers in one situation, of which the first was preferred; what DPO and reward models learn from."""

    better: Sample
    worse: Sample


class Learning(msgspec.Struct, frozen=True, kw_only=True):
    """How an update learns; the same words for every loss. An update is one optimiser step per mini-batch."""

    loss: str
    """`cross_entropy`, `dpo`, `reward_model`, or the name of a policy-gradient loss."""
    options: dict[str, Any] = {}
    """Of the loss: `beta`, `clip_low`, `clip_high`, …; unknown ones are refused."""
    learning_rate: float = 1e-4
    num_minibatches: int = 1
    """The samples are cut into this many optimiser steps, rollouts kept whole."""
    max_tokens_per_pass: int = 8192
    """Of one forward and backward pass; more are accumulated."""
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_steps: int = 0
    total_steps: int | None = None
    """Of the schedule (linear down to `final_rate` of the learning rate); None: constant after the warm-up."""
    final_rate: float = 0.1
    dump: str | None = None
    """A file to which every trained token is written: token, old and new logprob, advantage, mask, why."""


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What an update did."""

    metrics: dict[str, float]
    """`loss`, `grad_norm`, `learning_rate`, `num_tokens` (trained), `num_row_tokens` (in all rows), of the torch engine
    `num_computed_tokens` (with padding; what rows begin with in common counts once); of policy gradients also
    `ratio_mean`, `ratio_max`, `clipped_share`, `entropy`, `kl_to_sampler`."""
    num_steps: int
    """Optimiser steps taken."""


class Engine(Protocol):
    """Implemented by `engine.torch` (transformers and peft, anywhere) and `engine.vllm` (samples on GPUs).

    Safe to use from any thread and loop. Raises ModelError for what the model cannot do (no chat template, out of
    memory; ContextTooLong for a call that does not fit), DataError for samples that fit no loss.
    """

    @property
    def model(self) -> str:
        """Path or hub name of the base model."""
        ...

    @property
    def max_context_tokens(self) -> int: ...

    def sample(self, call: Call, *, weights: str = "", rollout_id: str = "") -> Future[Reply]:
        """Answer a call. The reply has `prompt_ids`, `completion_ids` and `logprobs` (natural log, of each sampled id
        at the temperature it was sampled with; of greedy ones at 1; top_p and top_k do not count), so what is learned
        later is exactly what was sampled.

        Honoured parameters: temperature, top_p, top_k, max_tokens (and its other names), stop, seed, n, tool_choice,
        parallel_tool_calls. Calls of one `rollout_id` reuse the ids, and the cache, of their unchanged history.
        """
        ...

    def forget(self, rollout_id: str) -> None:
        """The rollout has ended: what was kept for its next call may go."""
        ...

    async def encode(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        agent: str = "",
        learned: Collection[int] | None = None,
    ) -> Sample:
        """A written conversation as a sample: assistant messages are trained (mask 1), nothing else.

        `learned`: the indices of those to train; None: all. For conversations nobody sampled here (demonstrations);
        those sampled here have their ids already.
        """
        ...

    async def update(self, samples: Sequence[Sample] | Sequence[Pair], *, adapter: str, learning: Learning) -> Update:
        """Learn; the adapter is made on first use. A step whose loss or gradient is not finite is not taken: ModelError
        says which sample it was."""
        ...

    async def score(self, samples: Sequence[Sample], *, weights: str = "") -> list[list[float]]:
        """Logprobs of the completion tokens (0.0 where the mask is 0) under some weights, at temperature 1."""
        ...

    async def rate(self, samples: Sequence[Sample], *, adapter: str) -> list[float]:
        """What a reward model trained as `adapter` (loss `reward_model`) thinks of each sample."""
        ...

    async def values(self, samples: Sequence[Sample], *, adapter: str) -> list[list[float]]:
        """What a critic trained as `adapter` (loss `value`) expects before each completion token (0.0 where the mask is
        0). Its returns to learn from are put into the samples' `advantages`."""
        ...

    async def snapshot(self, adapter: str) -> str:
        """The adapter's weights now, as a version. An adapter that never learned is the base model: `""`."""
        ...

    async def start_from(self, adapter: str, version: str) -> None:
        """Put the adapter's weights back to a version, with a fresh optimiser."""
        ...

    async def save(self, version: str, folder: Path) -> None:
        """Write a version: safetensors in PEFT's layout (LoRA) or transformers' (full). Whole or not at all."""
        ...

    async def load(self, folder: Path) -> str:
        """Make a saved version known; gives its name. ModelError when it does not fit the base model."""
        ...

    async def export(self, version: str, folder: Path) -> None:
        """Write a model of its own, adapter merged, with tokenizer: for any server."""
        ...

    async def checkpoint(self, adapter: str, folder: Path) -> None:
        """Everything the adapter's learning goes on from: weights, optimiser, schedule, random numbers."""
        ...

    async def restore(self, adapter: str, folder: Path) -> None:
        """Go on from a checkpoint, exactly."""
        ...

    async def close(self) -> None: ...


class HandedTask(msgspec.Struct, frozen=True):
    """A task as a trainer elsewhere knows it: by its id. What it says is only for that trainer's own tables."""

    id: str
    text: str


class Order(msgspec.Struct, frozen=True):
    """One rollout that a trainer elsewhere asks for."""

    task: str
    num_updates: int
    """Learning rounds behind the weights that answer it."""
    draw: int
    """Tells rollouts of one task under the same weights apart."""
    is_validation: bool = False


class Played(msgspec.Struct, frozen=True):
    """What became of it. Without samples, or without a reward, there is nothing to learn from it."""

    samples: list[Sample]
    reward: float | None
    num_turns: int = 0


Play = Callable[[Order], Awaitable[Played]]
Tell = Callable[[str, dict[str, float]], None]
"""A line for the run's log, with numbers for its curves."""


class Handoff(msgspec.Struct, frozen=True, kw_only=True):
    """Reinforcement learning as it is handed over: everything that algorithm would have done itself, in its words."""

    adapter: str
    start: str
    """The version to begin from; `""` is the base model."""
    method: str
    training: list[HandedTask]
    validation: list[HandedTask]
    group_size: int
    batch_size: int
    """Tasks in one learning round."""
    num_rounds: int
    num_minibatches: int
    learning_rate: float
    temperature: float
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    final_rate: float = 0.1
    clip: tuple[float, float] | None = None
    kl: float = 0.0
    entropy: float = 0.0
    max_weight: float | None = None
    """Bound of the truncated weights for samples of older weights; None: no correction."""
    max_tokens_per_pass: int = 8192
    evaluate_every: int = 1
    seed: int = 0
    folder: Path
    """Where the job may keep its files; the same one after an interruption."""


@runtime_checkable
class LearnsElsewhere(Protocol):
    """An engine whose weights are trained by another program: it is given the whole of it, and asks for rollouts.

    While it learns, weights by the name `live(n)` answer: those after `n` learning rounds, whichever they are just now.
    """

    def live(self, num_updates: int) -> str: ...

    async def hand_off(self, work: Handoff, play: Play, tell: Tell) -> dict[int, str]:
        """Learning rounds → version, of the weights that were kept; the last round's are among them.

        ConfigError for settings that program does not have, ModelError when it fails.
        """
        ...
