"""What people said of one agent's rollouts, read from the whole store: live ones and those of every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentlightning.data.trajectory import Trajectory
from agentlightning.rewards.feedback import read_feedback
from agentlightning.rewards.opinions import Opinions
from agentlightning.store.base import Store
from agentlightning.store.trajectories import read_trajectories

_BATCH = 200


async def read_opinions(store: Store, agent_id: str) -> Opinions:
    """Ratings of this agent's rollouts, and choices between two of them. DataError for a record that is nonsense."""
    bodies: dict[str, dict[str, Any]] = {}
    async for stored in store.read("feedback"):
        record = stored.record
        bodies[record.id] = {**record.body, "rollout": record.body.get("rollout") or record.rollout}
    rollouts = await _rollouts(store, agent_id, sorted({id for body in bodies.values() for id in _spoken_of(body)}))
    ours = [body for body in bodies.values() if _spoken_of(body) and all(id in rollouts for id in _spoken_of(body))]
    return Opinions(read_feedback(ours), rollouts)


def _spoken_of(body: Mapping[str, Any]) -> list[str]:
    kind = body.get("kind") or "rating"
    names = {"choice": ("better", "worse"), "rating": ("rollout",)}.get(kind, ())
    return [body.get(name) or "" for name in names]


async def _rollouts(store: Store, agent_id: str, ids: list[str]) -> dict[str, Trajectory]:
    found: dict[str, Trajectory] = {}
    for start in range(0, len(ids), _BATCH):
        where = {"rollout": ids[start : start + _BATCH]}
        found |= {t.id: t async for t in read_trajectories(store, where) if t.agent_id == agent_id}
    return found
