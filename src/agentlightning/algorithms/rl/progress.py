"""Where learning stands: weights now, weights that did best, and how to go on after a kill, exactly.

An iteration is on disk before it is on record: each has a folder of its own for optimisers and weights, the record
names it, and only then the one before goes. Versions that somebody may still need (the best, those that groups in
flight were sampled with) stay beside.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agentlightning.algorithms.base import Session
from agentlightning.algorithms.fitting import engine_of
from agentlightning.algorithms.rl.watch import fallen
from agentlightning.data.resource import Policy


class Progress:
    """Of one stage. `adapters` are those that learn: the agents', and PPO's critics."""

    def __init__(self, session: Session, adapters: list[str]) -> None:
        self.policy = session.policy
        """With the weights of now."""
        self.best = session.policy
        self.best_mean = 0.0
        self.num_updates = 0
        self._session = session
        self._adapters = adapters
        self._engine = engine_of(session)
        self._folder = session.folder

    async def begin(self) -> dict[str, Any] | None:
        """The rest of the state that `keep` was given, when this goes on after an interruption; else None."""
        start, state = self._session.policy, self._session.restored
        self.best_mean = (await self._session.evaluate(start)).mean
        if state is None:
            for adapter in self._adapters:
                await self._engine.start_from(adapter, start.weights.get(adapter, ""))
            return None
        for version in sorted(self._folder.glob("versions/w-*")):
            await self._engine.load(version)
        for adapter in self._adapters:
            await self._engine.restore(adapter, self._place(state["num_updates"]) / adapter)
        self.num_updates = state["num_updates"]
        self.policy = _with(start, {agent: await self._engine.snapshot(agent) for agent in self._session.agents})
        self.best, self.best_mean = _with(start, state["best"]), state["best_mean"]
        self._session.log(f"goes on after iteration {self.num_updates}")
        return state["rest"]

    async def learned(self, agents: Collection[str]) -> None:
        """An update has been made of these agents' weights."""
        self.num_updates += 1
        for agent in agents:
            self.policy = self.policy.with_weights(agent, await self._engine.snapshot(agent))

    async def measure(self) -> bool:
        """Measure the weights of now on the validation tasks, and put on record whether they are the best so far."""
        if self.policy.id == self.best.id:
            return False
        evaluation = await self._session.evaluate(self.policy)
        is_better = evaluation.mean > self.best_mean
        reason = f"iteration {self.num_updates}: success {evaluation.mean:.3f} (best before: {self.best_mean:.3f})"
        self._session.log(reason, success=evaluation.mean)
        if (words := fallen(self.best_mean, evaluation.mean, len(evaluation.scores))) is not None:
            self._session.log(words)
        decision = "accepted" if is_better else "rejected"
        await self._session.decide(self.policy, decision, parent=self.best, reason=reason, round=self.num_updates)
        if is_better:
            self.best, self.best_mean = self.policy, evaluation.mean
        return is_better

    async def keep(self, rest: dict[str, Any], needed: Collection[str]) -> None:
        """Put this iteration on disk and on record. `needed`: versions that somebody still samples with."""
        await self._keep_versions({*needed, *self.best.weights.values()})
        place = self._place(self.num_updates)
        for adapter in self._adapters:
            await self._engine.checkpoint(adapter, place / adapter)
        state = {
            "num_updates": self.num_updates,
            "best": self._learned(self.best),
            "best_mean": self.best_mean,
            "rest": rest,
        }
        await asyncio.shield(self._session.checkpoint(state))
        for old in place.parent.iterdir():
            if old != place:
                shutil.rmtree(old)

    async def finish(self, *, keep_best: bool) -> Policy:
        """The policy to hand back; the engine's adapters are put there too."""
        found = self.best if keep_best else self.policy
        for agent in self._session.agents:
            await self._engine.start_from(agent, found.weights.get(agent, ""))
        return found

    async def _keep_versions(self, needed: set[str]) -> None:
        folder = self._folder / "versions"
        for version in sorted(needed - {""}):
            if not (folder / version).is_dir():
                await self._engine.save(version, folder / version)
        for old in folder.glob("w-*"):
            if old.name not in needed:
                shutil.rmtree(old)

    def _learned(self, policy: Policy) -> dict[str, str]:
        return {agent: policy.weights.get(agent, "") for agent in self._session.agents}

    def _place(self, num_updates: int) -> Path:
        return self._folder / "iterations" / str(num_updates)


def _with(policy: Policy, weights: dict[str, str]) -> Policy:
    for agent, version in weights.items():
        policy = policy.with_weights(agent, version)
    return policy
