"""Learning from a fixed set of samples, epoch by epoch, keeping the weights that did best.

Two things are measured after every epoch: the loss on samples held back (is it still learning, or learning by heart?)
and the agent's own success on the validation tasks (is that any good?). The second decides.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from pydantic import Field

from agentlightning.algorithms.base import AlgorithmConfig, Session
from agentlightning.data.resource import Policy
from agentlightning.data.sample import Sample
from agentlightning.engine.base import Engine, Learning, Pair
from agentlightning.errors import ConfigError

Item = Sample | Pair


class FittingConfig(AlgorithmConfig):
    """How samples are learned from."""

    epochs: int = Field(default=3, ge=1)
    """Most passes over the samples."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """At its highest; it falls linearly. Right for adapters; lower it (1e-5) when all weights are trained."""
    batch_size: int = Field(default=16, ge=1)
    """Samples in one optimiser step."""
    warmup_share: float = Field(default=0.05, ge=0, le=1)
    """Of all optimiser steps."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of AdamW."""
    held_back: float = Field(default=0.1, ge=0, lt=1)
    """Share of the samples that are not learned from, for the validation loss."""
    patience: int = Field(default=1, ge=1)
    """Epochs without a better success before it stops."""
    max_tokens_per_pass: int = Field(default=8192, ge=1)
    """Tokens computed at once; lower it when memory runs out."""
    dump: bool = False
    """Write every trained token with its logprob into the stage's folder."""


class Loss(Protocol):
    """What is minimised, by the engine's name for it, and how far it has come on samples held back."""

    name: str
    options: dict[str, Any]

    async def held_back(self, engine: Engine, items: Sequence[Item], weights: str) -> float:
        """The loss of some weights on items nobody learned from."""
        ...


class Fitted(msgspec.Struct):
    """Where the learning of one agent stands."""

    policy: Policy
    """The best so far."""
    mean: float
    """Its success on the validation tasks."""
    epoch: int = 0
    """Epochs learned."""
    num_stale: int = 0
    """Epochs since the best."""

    def to_state(self, agent: str) -> dict[str, Any]:
        return {"weights": self.policy.weights.get(agent, ""), "epoch": self.epoch, "num_stale": self.num_stale}


async def fit(
    session: Session, agent: str, items: Sequence[Item], *, start: Policy, loss: Loss, config: FittingConfig
) -> Policy:
    """The best policy that learning `items` gives: `start` itself, or it with other weights for `agent`."""
    engine = engine_of(session)
    learned, kept = held_back(items, config.held_back, session.seed)
    folder = session.folder / agent
    fitted = await _begin(session, agent, start, folder)
    steps_per_epoch = math.ceil(len(learned) / config.batch_size)
    learning = Learning(
        loss=loss.name,
        options=loss.options,
        learning_rate=config.learning_rate,
        num_minibatches=steps_per_epoch,
        max_tokens_per_pass=config.max_tokens_per_pass,
        weight_decay=config.weight_decay,
        warmup_steps=round(config.warmup_share * steps_per_epoch * config.epochs),
        total_steps=steps_per_epoch * config.epochs,
        dump=str(folder / "tokens.jsonl") if config.dump else None,
    )
    while fitted.epoch < config.epochs and fitted.num_stale < config.patience:
        order = random.Random(f"{session.seed}/{agent}/{fitted.epoch}").sample(range(len(learned)), len(learned))
        shuffled = cast(list[Sample] | list[Pair], [learned[i] for i in order])
        update = await engine.update(shuffled, adapter=agent, learning=learning)
        version = await engine.snapshot(agent)
        lost = await loss.held_back(engine, kept, version) if kept else None
        await _judge(session, agent, fitted, start.with_weights(agent, version), update.metrics, lost)
        await _remember(session, agent, fitted, folder)
    await engine.start_from(agent, fitted.policy.weights.get(agent, ""))
    return fitted.policy


def engine_of(session: Session) -> Engine:
    """The session's engine. ConfigError when there is none."""
    if session.engine is None:
        raise ConfigError(
            "this algorithm trains weights, and there is no model whose weights are ours to train. Set models.policy "
            "to the folder or hub name of a model (a hosted one cannot be trained this way; `apo` improves prompts)."
        )
    return session.engine


def held_back(items: Sequence[Item], share: float, seed: int) -> tuple[list[Item], list[Item]]:
    """Those to learn from and those not, drawn by rollout: no rollout is on both sides, at least one is learned."""
    rollouts = list(dict.fromkeys(_rollout(item) for item in items))
    random.Random(f"{seed}/held back").shuffle(rollouts)
    kept = set(rollouts[: min(math.floor(share * len(rollouts) + 0.5), len(rollouts) - 1)])
    return [i for i in items if _rollout(i) not in kept], [i for i in items if _rollout(i) in kept]


def _rollout(item: Item) -> str:
    return item.rollout_id if isinstance(item, Sample) else item.better.rollout_id


async def _begin(session: Session, agent: str, start: Policy, folder: Path) -> Fitted:
    """From the start, or from the last epoch before an interruption."""
    engine = engine_of(session)
    before = await session.evaluate(start)
    state = (session.restored or {}).get(agent)
    if state is None:
        await engine.start_from(agent, start.weights.get(agent, ""))
        return Fitted(start, before.mean)
    await engine.restore(agent, folder / "epochs" / str(state["epoch"]))
    if state["weights"]:
        await engine.load(folder / "best" / state["weights"])
    policy = start.with_weights(agent, state["weights"])
    best = await session.evaluate(policy)
    session.log(f"{agent}: goes on after epoch {state['epoch']}")
    return Fitted(policy, best.mean, state["epoch"], state["num_stale"])


async def _judge(
    session: Session, agent: str, fitted: Fitted, policy: Policy, metrics: dict[str, float], lost: float | None
) -> None:
    evaluation = await session.evaluate(policy)
    fitted.epoch += 1
    is_better = evaluation.mean > fitted.mean
    fitted.num_stale = 0 if is_better else fitted.num_stale + 1
    text = f"loss {metrics['loss']:.3f}" + (f", {lost:.3f} on samples held back" if lost is not None else "")
    reason = f"epoch {fitted.epoch}: success {evaluation.mean:.3f} ({fitted.mean:.3f} before), {text}"
    measured = metrics | {"success": evaluation.mean} | ({"held_back_loss": lost} if lost is not None else {})
    session.log(f"{agent}: {reason}", iteration=fitted.epoch, **measured)
    decision = "accepted" if is_better else "rejected"
    await session.decide(policy, decision, parent=fitted.policy, reason=reason, round=fitted.epoch)
    if is_better:
        fitted.policy, fitted.mean = policy, evaluation.mean


async def _remember(session: Session, agent: str, fitted: Fitted, folder: Path) -> None:
    """Put this epoch on disk, then on record, then the one before away: whenever this is cut off, the record and what
    it speaks of are there."""
    engine, state = engine_of(session), fitted.to_state(agent)
    await engine.checkpoint(agent, folder / "epochs" / str(fitted.epoch))
    if fitted.num_stale == 0:
        await engine.save(state["weights"], folder / "best" / state["weights"])
    session.restored = {**(session.restored or {}), agent: state}
    await asyncio.shield(session.checkpoint(session.restored))
    for old in folder.glob("epochs/*"), folder.glob("best/*"):
        for place in old:
            if place.name not in (str(fitted.epoch), state["weights"]):
                shutil.rmtree(place)
