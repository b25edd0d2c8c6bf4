"""Blobs as rows of one MiB each, put in one transaction: a blob is there whole, or not at all."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from agentlightning.store.base import BlobRef
from agentlightning.store.blobs import CHUNK_BYTES, blob_name, missing, verified

if TYPE_CHECKING:
    from agentlightning.store.postgres_server import Connection, Server


class PostgresBlobs:
    """Blocking; the store calls it from threads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._blobs = f"{server.address.schema}.blobs"
        self._chunks = f"{server.address.schema}.blob_chunks"

    def put(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep the bytes. What was there under the same hash is replaced, so damage is healed."""
        digest, size, upload = hashlib.sha256(), 0, uuid.uuid4()
        insert = f"INSERT INTO {self._chunks} (upload, number, bytes) VALUES (%s, %s, %b)".encode()
        self._ask("SELECT 1", [])  # the chunks can be drawn only once: notice a lost connection before that
        with self._server.lent() as connection, self._server.explained("written"), connection.transaction():
            for number, piece in enumerate(even_pieces([chunks] if isinstance(chunks, bytes) else chunks)):
                digest.update(piece)
                size += len(piece)
                connection.execute(insert, [upload, number, piece])
            ref = BlobRef(digest.hexdigest(), size)
            self._publish(connection, ref, upload)
        return ref

    def read(self, ref: BlobRef) -> Generator[bytes]:
        """The bytes in chunks; the last one comes only if the whole has the right hash."""
        place = f"{blob_name(ref)} of {self._server.address.shown}"
        return verified(self._read(ref), ref, place)

    def all(self) -> Generator[BlobRef]:
        """Every blob, by name."""
        for sha256, size in self._ask(f"SELECT sha256, size FROM {self._blobs} ORDER BY sha256", []):
            yield BlobRef(sha256, size)

    def remove(self, ref: BlobRef) -> None:
        """Take a blob away, if it is there."""
        gone = f"DELETE FROM {self._blobs} WHERE sha256 = %s RETURNING upload"
        sql = f"WITH gone AS ({gone}) DELETE FROM {self._chunks} WHERE upload IN (SELECT upload FROM gone)"
        self._server.attempt(lambda connection: connection.execute(sql.encode(), [ref.sha256]), "written")

    def _publish(self, connection: Connection, ref: BlobRef, upload: uuid.UUID) -> None:
        """Give the upload its name; somebody else's upload of the same content goes."""
        upsert = (
            f"INSERT INTO {self._blobs} AS blob (sha256, size, upload) VALUES (%s, %s, %s) ON CONFLICT (sha256) "
            "DO UPDATE SET replaced = blob.upload, upload = excluded.upload, size = excluded.size RETURNING replaced"
        )
        row = connection.execute(upsert.encode(), [ref.sha256, ref.size, upload]).fetchone()
        if row and row[0]:
            connection.execute(f"DELETE FROM {self._chunks} WHERE upload = %s".encode(), [row[0]])

    def _read(self, ref: BlobRef) -> Generator[bytes]:
        if not self._ask(f"SELECT 1 FROM {self._blobs} WHERE sha256 = %s", [ref.sha256]):
            raise missing(ref, self._server.address.shown)
        # The upload is looked up anew for each chunk: putting the same blob meanwhile replaces it, cut the same way.
        select = f"SELECT bytes FROM {self._chunks} JOIN {self._blobs} USING (upload) WHERE sha256 = %s AND number = %s"
        number = 0
        while rows := self._ask(select, [ref.sha256, number]):
            yield rows[0][0]
            number += 1

    def _ask(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._server.attempt(lambda c: c.execute(sql.encode(), values, binary=True).fetchall(), "read")


def even_pieces(chunks: Iterable[bytes]) -> Generator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES, the last one shorter; none for no bytes."""
    held = bytearray()
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), CHUNK_BYTES):
            held += view[start : start + CHUNK_BYTES]
            if len(held) >= CHUNK_BYTES:
                yield bytes(held[:CHUNK_BYTES])
                del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)
