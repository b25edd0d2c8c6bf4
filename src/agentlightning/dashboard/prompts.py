"""How the instructions came about: every version and what it grew from, what was decided, and what one changes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import msgspec

from agentlightning.data.record import Record
from agentlightning.data.resource import Policy
from agentlightning.errors import DataError
from agentlightning.store.base import Store

ORIGINAL = "original"


class Version(msgspec.Struct, kw_only=True):
    """One policy in the tree. `mean` is its validation; None when it was refused before it was run."""

    id: str
    parent: str = ""
    decision: str = ""
    reason: str = ""
    stage: str = ""
    round: int | None = None
    idea: str = ""
    mean: float | None = None
    is_handed_back: bool = False


class TaskChange(msgspec.Struct, frozen=True):
    """A validation task under a version and under the one it grew from."""

    task: str
    before: float
    after: float


async def tree(store: Store, run_id: str) -> list[Version]:
    """Every version a run decided about, in order, the original first."""
    policies, scores, handed_back = await _known(store, run_id)
    found = {ORIGINAL: Version(id=ORIGINAL)}
    for record in policies:
        body = record.body
        if "decision" in body:
            details: dict[str, Any] = body.get("details") or {}
            found[record.id] = Version(
                id=record.id,
                parent=body["parent"],
                decision=body["decision"],
                reason=body["reason"],
                stage=body.get("stage") or "",
                round=details.get("round"),
                idea=str(details.get("idea") or ""),
            )
    for version in found.values():
        values = scores.get(version.id)
        version.mean = sum(values.values()) / len(values) if values else None
        version.is_handed_back = version.id == handed_back
    return list(found.values())


async def version(store: Store, run_id: str, policy_id: str, against: str = "") -> dict[str, Any]:
    """What a version says at each site, its changes against another (its parent), and the tasks it won and lost."""
    policies, scores, _ = await _known(store, run_id)
    known = {record.id: record for record in policies}
    if policy_id != ORIGINAL and policy_id not in known:
        raise DataError(f"there is no policy {policy_id!r} in run {run_id}.")
    other = against or (known[policy_id].body.get("parent") if policy_id in known else "") or ORIGINAL
    after, before = (_policy(known.get(id)) for id in (policy_id, other))
    return {
        "id": policy_id,
        "against": other,
        "sites": _texts(after, before),
        "demos": msgspec.to_builtins(after.demos),
        "weights": after.weights,
        "models": after.models,
        "tasks": _task_changes(scores.get(policy_id, {}), scores.get(other, {})),
    }


async def _known(store: Store, run_id: str) -> tuple[list[Record], dict[str, dict[str, float]], str]:
    """A run's policies (one that was decided about as that), scores by policy, and which was handed back."""
    policies: dict[str, Record] = {}
    scores: dict[str, dict[str, float]] = {}
    handed_back = ""
    async for stored in store.read(("policy", "evaluation", "run"), {"run": run_id}):
        record = stored.record
        if record.kind == "policy":
            if "decision" in record.body or record.id not in policies:
                policies[record.id] = record
        elif record.kind == "evaluation":
            scores[record.body["policy_id"]] = record.body["scores"]
        elif result := record.body.get("result"):
            handed_back = msgspec.convert(result["policy"], Policy).id
    return list(policies.values()), scores, handed_back


def _policy(record: Record | None) -> Policy:
    if record is None:
        return Policy()
    body = record.body
    return msgspec.convert(body["policy"] if "decision" in body else body, Policy)


def _texts(after: Policy, before: Policy) -> list[dict[str, Any]]:
    """Each site one of them knows: its text now, and the lines as kept, added or left out."""
    sites = {site.id: site for site in (*before.sites, *after.sites)}
    found: list[dict[str, Any]] = []
    for site in sites.values():
        old, new = before.text_at(site), after.text_at(site)
        found.append(
            {"site": site.id, "kind": site.kind, "agent": site.agent, "text": new, "lines": changed_lines(old, new)}
        )
    return sorted(found, key=lambda entry: all(sign == " " for sign, _ in entry["lines"]))


def changed_lines(old: str, new: str) -> list[tuple[str, str]]:
    """Lines with their sign: " " kept, "-" left out, "+" added."""
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return [(line[0], line[2:]) for line in lines if line[0] != "?"]


def _task_changes(after: Mapping[str, float], before: Mapping[str, float]) -> list[TaskChange]:
    both = [TaskChange(task, before[task], after[task]) for task in after if task in before]
    return sorted(both, key=lambda change: change.after - change.before)
