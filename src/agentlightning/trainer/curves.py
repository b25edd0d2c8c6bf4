"""How a run's stages learned, by the numbers they told: read from the record, so an interruption leaves no gap."""

from __future__ import annotations

from agentlightning.store.base import Store
from agentlightning.trainer.result import Curve

_KEPT = {"reward", "loss"}


async def curves_of(store: Store, run_id: str) -> list[Curve]:
    """Rewards, or losses where a stage told no rewards: beside them they say little. A line told twice counts once."""
    told: dict[tuple[str, str], dict[str, float]] = {}
    async for stored in store.read("log", {"run": run_id}):
        body = stored.record.body
        metrics: dict[str, float] = body.get("metrics") or {}
        for name in _KEPT & metrics.keys():
            told.setdefault((body["stage"], name), {})[body["text"]] = metrics[name]
    for stage, _ in [key for key in told if key[1] == "reward"]:
        told.pop((stage, "loss"), None)
    return [
        Curve(stage=stage, name=name, values=list(values.values())) for (stage, name), values in sorted(told.items())
    ]
