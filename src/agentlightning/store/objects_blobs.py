"""Blobs as objects named by the hash of their content."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Generator, Iterable

from agentlightning.store.base import BlobRef
from agentlightning.store.blobs import CHUNK_BYTES, blob_name, is_digest, missing, verified
from agentlightning.store.objects_place import Missing, Objects

_IN_MEMORY_BYTES = 8 << 20


class ObjectBlobs:
    """Blocking; the store calls it from threads."""

    def __init__(self, objects: Objects, *, flushes: bool) -> None:
        self._objects = objects
        self._flushes = flushes

    def put(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep the bytes. The hash is the name, so a long blob waits in a temporary file until it is known whole."""
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                with self._objects.explained("written (a blob's temporary file)"):
                    file.write(chunk)
                digest.update(chunk)
            ref = BlobRef(digest.hexdigest(), file.tell())
            file.seek(0)
            name = f"blobs/{blob_name(ref)}"
            self._objects.put(name, file)
        if self._flushes:
            self._objects.flush(name)
        return ref

    def read(self, ref: BlobRef) -> Generator[bytes]:
        """The bytes in chunks; the last one comes only if the whole has the right hash."""
        return verified(self._read(ref), ref, f"{blob_name(ref)} of {self._objects.place}")

    def all(self) -> Generator[BlobRef]:
        """Every blob, by name."""
        for listed in self._objects.list("blobs"):
            name = listed.name.rpartition("/")[2]
            if is_digest(name):
                yield BlobRef(name, listed.size)

    def remove(self, ref: BlobRef) -> None:
        """Take a blob away, if it is there."""
        self._objects.delete(f"blobs/{blob_name(ref)}")

    def _read(self, ref: BlobRef) -> Generator[bytes]:
        try:
            yield from self._objects.stream(f"blobs/{blob_name(ref)}", CHUNK_BYTES)
        except Missing as error:
            raise missing(ref, self._objects.place) from error
