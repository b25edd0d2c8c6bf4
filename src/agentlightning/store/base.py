"""The store contract: append records, read them by filter or since a cursor, watch the tail, keep blobs.

Durable means: once `append` returned (or `submit`'s future resolved), the records survive `kill -9`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NewType, Protocol

import msgspec

from agentlightning.data.record import Record

Cursor = NewType("Cursor", str)
"""An opaque position; what was committed after it, however late, is read by `since=`."""

Where = Mapping[str, Any]
"""Field → value, or → list of allowed values. Fields: `id`, `run`, `rollout`, or a path into the body (`a.b`)."""


class StoredRecord(msgspec.Struct, frozen=True):
    """A record with the position right after it."""

    record: Record
    cursor: Cursor


class BlobRef(msgspec.Struct, frozen=True):
    """A blob by its content: `sha256` hex digest and size in bytes."""

    sha256: str
    size: int


class Removal(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to go: all records of these runs, and those of these rollouts that belong to no run."""

    runs: list[str] = []
    rollouts: list[str] = []


class Store(Protocol):
    """Implemented by every back end; one contract suite (`tests/contract/store`) runs over all of them."""

    address: str

    def submit(self, records: Sequence[Record]) -> Future[Cursor]:
        """Append from any thread without waiting; the future resolves when the records are durable, all or none."""
        ...

    async def append(self, records: Sequence[Record]) -> Cursor:
        """Append and wait until durable."""
        ...

    def read(
        self,
        kind: str | Sequence[str] | None = None,
        where: Where | None = None,
        *,
        since: Cursor | None = None,
        newest_first: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[StoredRecord]:
        """Records in commit order (or newest first), as they were when reading began."""
        ...

    def watch(
        self, kind: str | Sequence[str] | None = None, *, since: Cursor | None = None
    ) -> AsyncIterator[StoredRecord]:
        """Everything since the cursor (None: from now on), then what is appended (by any process), until closed."""
        ...

    async def put_blob(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep bytes under their hash; the same content is stored once."""
        ...

    def get_blob(self, ref: BlobRef) -> AsyncIterator[bytes]:
        """The bytes of a blob in chunks. StoreError when it is missing or its content does not match its hash."""
        ...

    def blobs(self) -> AsyncIterator[BlobRef]:
        """Every blob there is, in no certain order."""
        ...

    async def verify(self) -> list[str]:
        """What is wrong with the place that keeps the records, one sentence each; empty when all is well."""
        ...

    async def remove(self, removal: Removal) -> int:
        """Take these records away for every reader, and say how many there were. What is appended later is kept."""
        ...

    async def remove_blob(self, ref: BlobRef) -> None:
        """Take a blob away; nothing happens when it is not there."""
        ...

    async def vacuum(self) -> None:
        """Give back the room of what was removed, and clear away what killed processes left."""
        ...

    async def occupied(self) -> int:
        """Bytes that the place takes up now: its files, tables or objects, the blobs among them."""
        ...

    async def close(self) -> None:
        """Flush and release; the store cannot be used afterwards."""
        ...
