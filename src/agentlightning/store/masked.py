"""A store whose records have placeholders for personal data before they are written.

All records of one rollout use the same placeholders, its steps and the rollout itself, though they are written one by
one. Policies, prompt sites, checkpoints and what the optimiser was asked and answered are written as they are: they are
the agent's program, and what the optimiser learns of its users it is told masked.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec

from agentlightning.data.masking import Masker
from agentlightning.data.record import Record
from agentlightning.data.task import Task
from agentlightning.data.trajectory import Step, Trajectory
from agentlightning.store.base import BlobRef, Cursor, Removal, Store, StoredRecord, Where

MAX_KNOWN = 10_000
"""Rollouts whose placeholders are remembered, the latest; each is written to within minutes."""

_FIELDS = {
    "task": ("input", "expected", "metadata"),
    "run": ("config", "error"),
    "completion": ("messages", "reply"),
    "log": ("text",),
    "feedback": ("reason", "comment", "correction"),
}
"""Where people are spoken of in the records that are no rollout and no step."""


class Masks:
    """The placeholders of a run. Used from any thread."""

    def __init__(self) -> None:
        self._maskers: OrderedDict[str, Masker] = OrderedDict()
        self._lock = threading.Lock()
        self._key = secrets.token_bytes(16)

    def trajectory(self, trajectory: Trajectory) -> Trajectory:
        """The trajectory as its records are written."""
        with self._lock:
            return self._masker(trajectory.id).trajectory(trajectory)

    def task(self, task: Task) -> Task:
        """The task as its record is written."""
        with self._lock:
            masker = self._masker(f"task {task.id}")
            input, expected = masker.value(task.input), masker.value(task.expected)
            return msgspec.structs.replace(task, input=input, expected=expected, metadata=masker.value(task.metadata))

    def record(self, record: Record) -> Record:
        """The record as it is written."""
        with self._lock:
            masker = self._masker(record.rollout or f"{record.kind} {record.id}")
            masker.heed(record.body)
            body = _body(record, masker)
            if record.kind == "feedback" and masker.value(body.get("rater")) != body.get("rater"):
                body["rater"] = self._pseudonym(body["rater"])
            return msgspec.structs.replace(record, body=body)

    def _pseudonym(self, rater: str) -> str:
        """People who rate are told apart, in every record alike, without being named."""
        return f"rater-{hashlib.blake2b(rater.encode(), key=self._key, digest_size=6).hexdigest()}"

    def _masker(self, key: str) -> Masker:
        masker = self._maskers.setdefault(key, Masker())
        self._maskers.move_to_end(key)
        if len(self._maskers) > MAX_KNOWN:
            self._maskers.popitem(last=False)
        return masker


class MaskedStore:
    """`Store` that masks what is appended; everything else is the store's own affair."""

    def __init__(self, store: Store, masks: Masks) -> None:
        self.address = store.address
        self._store = store
        self._masks = masks

    def submit(self, records: Sequence[Record]) -> Future[Cursor]:
        return self._store.submit([self._masks.record(record) for record in records])

    async def append(self, records: Sequence[Record]) -> Cursor:
        return await self._store.append([self._masks.record(record) for record in records])

    def read(
        self,
        kind: str | Sequence[str] | None = None,
        where: Where | None = None,
        *,
        since: Cursor | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[StoredRecord]:
        return self._store.read(kind, where, since=since, newest_first=newest_first, limit=limit)

    def watch(
        self, kind: str | Sequence[str] | None = None, *, since: Cursor | None = None
    ) -> AsyncIterator[StoredRecord]:
        return self._store.watch(kind, since=since)

    async def put_blob(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        return await self._store.put_blob(chunks)

    def get_blob(self, ref: BlobRef) -> AsyncIterator[bytes]:
        return self._store.get_blob(ref)

    def blobs(self) -> AsyncIterator[BlobRef]:
        return self._store.blobs()

    async def verify(self) -> list[str]:
        return await self._store.verify()

    async def remove(self, removal: Removal) -> int:
        return await self._store.remove(removal)

    async def remove_blob(self, ref: BlobRef) -> None:
        await self._store.remove_blob(ref)

    async def vacuum(self) -> None:
        await self._store.vacuum()

    async def occupied(self) -> int:
        return await self._store.occupied()

    async def close(self) -> None:
        await self._store.close()


def _body(record: Record, masker: Masker) -> dict[str, Any]:
    body = record.body
    if record.kind == "step":
        return msgspec.to_builtins(masker.step(msgspec.convert(body, Step)))
    if record.kind == "rollout":
        masked = masker.trajectory(msgspec.convert(body, Trajectory))
        return {name: msgspec.to_builtins(getattr(masked, name)) for name in body}
    if record.kind == "completion" and body.get("role") == "optimizer":
        return body
    return {**body, **{name: masker.value(body[name]) for name in _FIELDS.get(record.kind, ()) if name in body}}
