"""What each page shows, as plain data: from the catalogue's rows and, for one run or rollout, the store's records."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agentlightning.dashboard.catalogue import OUTSIDE, Catalogue, RolloutRow, RunRow, sums, sums_by
from agentlightning.data.features import features
from agentlightning.data.record import Record
from agentlightning.data.trajectory import Trajectory
from agentlightning.errors import DataError
from agentlightning.store.base import Store
from agentlightning.store.liveness import status_of
from agentlightning.store.trajectories import read_trajectories

PAGE_ROWS = 100
MAX_LOG_LINES = 500
NUM_BINS = 60
"""Of the curve of training rewards."""
FILTERS = ("stage", "split", "policy", "task", "status", "agent")


async def runs(catalogue: Catalogue) -> dict[str, Any]:
    """Every run, newest first, and what was collected outside any."""
    await catalogue.refresh()
    known = [run for run in catalogue.runs.values() if run.id != OUTSIDE]
    outside = catalogue.runs.get(OUTSIDE)
    return {
        "runs": [_summary(run) for run in sorted(known, key=_started, reverse=True)],
        "outside": sums(outside.rollouts.values()) if outside else None,
    }


async def run(catalogue: Catalogue, run_id: str) -> dict[str, Any]:
    """One run: how far it is, its curves, evaluations, log, sites and what it came to."""
    found = await _found(catalogue, run_id)
    rows = list(found.rollouts.values())
    kinds = await _records(catalogue.store, run_id, ("evaluation", "policy", "log", "site"))
    result = found.body.get("result") or {}
    logs = [{"at": record.time, **record.body} for record in kinds["log"]]
    return _summary(found) | {
        "result": {key: value for key, value in result.items() if key not in ("policy", "history", "tasks", "sites")},
        "outcomes": _outcomes(result.get("tasks") or []),
        "config": found.body.get("config") or {},
        "folder": found.body.get("folder") or "",
        "in_flight": len(await catalogue.in_flight(found)),
        "stages": sums_by(rows, "stage"),
        "splits": sums_by(rows, "split"),
        "evaluations": _evaluations(kinds["evaluation"], kinds["policy"]),
        "baseline": _baseline(kinds["evaluation"]),
        "rewards": _binned([row for row in rows if row.split == "train" and row.reward is not None]),
        "series": _series(logs),
        "log": logs[-MAX_LOG_LINES:],
        "sites": _latest(kinds["site"]),
    }


async def rollouts(catalogue: Catalogue, run_id: str, query: Mapping[str, str]) -> dict[str, Any]:
    """A page of a run's rollouts. FILTERS by value, `q` searches texts, `order` is failures, newest, low or high."""
    found = await _found(catalogue, run_id)
    rows = [row for row in found.rollouts.values() if _fits(row, query)]
    order = query.get("order") or "failures"
    if order == "failures":
        rows.sort(key=lambda row: row.badness)
    elif order == "newest":
        rows.sort(key=lambda row: -row.at)
    elif order in ("low", "high"):
        sign = 1 if order == "low" else -1
        rows.sort(key=lambda row: (row.reward is None, sign * (row.reward or 0.0)))
    else:
        raise DataError(f"order {order!r} is not known: take failures, newest, low or high.")
    start = _whole(query.get("offset"))
    return {
        "total": len(rows),
        "rows": rows[start : start + PAGE_ROWS],
        "values": {
            name: list(dict.fromkeys(getattr(row, name) for row in found.rollouts.values())) for name in FILTERS
        },
    }


async def rollout(store: Store, rollout_id: str) -> dict[str, Any]:
    """One rollout, whole: steps, rewards, feedback, and which step shows what went wrong."""
    async for found in read_trajectories(store, {"id": rollout_id}, limit=1):
        return msgspec.to_builtins(found) | {"features": msgspec.to_builtins(found.features or features(found))}
    steps = [stored.record.body async for stored in store.read("step", {"rollout": rollout_id})]
    if not steps:
        raise DataError(f"there is no rollout {rollout_id!r} in this store.")
    first = steps[0]
    return {"id": rollout_id, "status": "in flight", "agent_id": first.get("agent", ""), "steps": steps}


async def pairs(catalogue: Catalogue, run_id: str, rater: str) -> dict[str, Any]:
    """Two unlike answers to one task that this rater has not compared yet (or none), and how many tasks are left."""
    found = await _found(catalogue, run_id)
    done = await _compared(catalogue.store, run_id, rater)
    by_task: defaultdict[str, list[RolloutRow]] = defaultdict(list)
    for row in found.rollouts.values():
        if row.status in ("succeeded", "failed"):
            by_task[row.task].append(row)
    open_pairs = [pair for rows in by_task.values() if (pair := _unlike(rows)) and frozenset(pair) not in done]
    shown = read_trajectories(catalogue.store, {"id": list(open_pairs[0])}) if open_pairs else None
    return {"left": len(open_pairs), "pair": [_blind(trajectory) async for trajectory in shown] if shown else []}


def _summary(run: RunRow) -> dict[str, Any]:
    body, result = run.body, run.body.get("result") or {}
    return {
        "id": run.id,
        "agent": body.get("agent") or next((row.agent for row in run.rollouts.values()), ""),
        "kind": body.get("kind") or "",
        "status": status_of(body),
        "started_at": _started(run),
        "last_at": run.last_at,
        "error": body.get("error"),
        "verdict": result.get("verdict"),
        "before": result.get("baseline"),
        "after": result.get("final", body.get("mean")),
        "interval": result.get("interval"),
        "cost": result.get("cost"),
        "sums": sums(run.rollouts.values()),
    }


def _started(run: RunRow) -> float:
    return run.body.get("started_at") or min((row.at for row in run.rollouts.values()), default=0.0)


async def _found(catalogue: Catalogue, run_id: str) -> RunRow:
    await catalogue.refresh()
    if run_id not in catalogue.runs:
        raise DataError(f"there is no run {run_id!r} in this store.")
    return catalogue.runs[run_id]


async def _records(store: Store, run_id: str, kinds: tuple[str, ...]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {kind: [] for kind in kinds}
    async for stored in store.read(kinds, {"run": run_id}):
        found[stored.record.kind].append(stored.record)
    return found


def _latest(records: Iterable[Record]) -> list[dict[str, Any]]:
    return list({record.id: record.body for record in records}.values())


def _evaluations(evaluations: Iterable[Record], policies: Iterable[Record]) -> list[dict[str, Any]]:
    """Each policy's validation, in the order they were made, with what was decided about it."""
    decided = {record.id: record.body for record in policies if "decision" in record.body}
    found: dict[str, dict[str, Any]] = {}
    for record in evaluations:
        body, decision = record.body, decided.get(record.body["policy_id"], {})
        found[record.id] = {
            "policy": body["policy_id"],
            "stage": body.get("stage") or "",
            "mean": body["mean"],
            "tasks": len(body["scores"]),
            "decision": decision.get("decision", ""),
            "reason": decision.get("reason", ""),
            "at": record.time,
        }
    return list(found.values())


def _baseline(evaluations: Iterable[Record]) -> dict[str, Any] | None:
    """The original's validation: its mean, and 1.96 standard errors to either side."""
    for record in evaluations:
        scores = list(record.body["scores"].values())
        if record.body["policy_id"] == "original" and scores:
            mean = sum(scores) / len(scores)
            variance = sum((score - mean) ** 2 for score in scores) / max(1, len(scores) - 1)
            half = 1.96 * math.sqrt(variance / len(scores))
            return {"mean": mean, "low": mean - half, "high": mean + half, "tasks": len(scores)}
    return None


def _binned(rows: list[RolloutRow]) -> list[dict[str, Any]]:
    """Mean reward of training rollouts in the order they began, in at most NUM_BINS equal parts."""
    rows = sorted(rows, key=lambda row: row.at)
    size = max(1, math.ceil(len(rows) / NUM_BINS))
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        {"at": part[-1].at, "rollouts": len(part), "mean": sums(part).mean, "stage": part[-1].stage} for part in parts
    ]


def _series(logs: Iterable[dict[str, Any]]) -> dict[str, dict[str, list[list[float]]]]:
    """Stage → metric → points [number of the log line that has it, value]."""
    found: defaultdict[str, defaultdict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    counts: defaultdict[str, int] = defaultdict(int)
    for line in logs:
        metrics, stage = line.get("metrics") or {}, line.get("stage") or ""
        counts[stage] += bool(metrics)
        for name, value in metrics.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[stage][name].append([counts[stage], value])
    return {stage: dict(metrics) for stage, metrics in found.items()}


def _outcomes(tasks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many tasks the new version won, lost and left the same, of those where both were judged."""
    counts = {"won": 0, "same": 0, "lost": 0}
    for task in tasks:
        before, after = task.get("baseline_reward"), task.get("final_reward")
        if before is not None and after is not None:
            counts["won" if after > before + 1e-9 else "lost" if after < before - 1e-9 else "same"] += 1
    return counts


def _fits(row: RolloutRow, query: Mapping[str, str]) -> bool:
    if any(query.get(name) and getattr(row, name) != query[name] for name in FILTERS):
        return False
    words = (query.get("q") or "").lower()
    return not words or any(
        words in text.lower() for text in (row.id, row.task, row.input, row.output, row.why, row.tags)
    )


def _whole(text: str | None) -> int:
    if text and not text.isdecimal():
        raise DataError(f"{text!r} is no whole number from 0 up.")
    return int(text or 0)


async def _compared(store: Store, run_id: str, rater: str) -> set[frozenset[str]]:
    bodies = [stored.record.body async for stored in store.read("feedback", {"run": run_id})]
    return {
        frozenset((b["better"], b["worse"])) for b in bodies if b.get("kind") == "choice" and b.get("rater") == rater
    }


def _unlike(rows: list[RolloutRow]) -> tuple[str, str] | None:
    """The first rollout and one that answered differently, under another policy where there is one."""
    others = [row for row in rows[1:] if row.output != rows[0].output]
    other = next((row for row in others if row.policy != rows[0].policy), others[0] if others else None)
    return (rows[0].id, other.id) if other else None


def _blind(trajectory: Trajectory) -> dict[str, Any]:
    """Without policy and reward, which would sway whoever compares."""
    shown = ("id", "task", "input", "output", "error", "expected")
    return {name: msgspec.to_builtins(getattr(trajectory, name)) for name in shown}
