"""Blobs as files in a folder, named by the hash of their content.

A name can only ever mean one content, so several processes may write the same blob at once.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from agentlightning.errors import StoreError
from agentlightning.store.base import BlobRef
from agentlightning.store.whole_file import draft

CHUNK_BYTES = 1 << 20
DRAFT_SECONDS = 24 * 3600
"""A draft older than this has no writer any more."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobFolder:
    """Blocking; the store calls it from threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, chunks: bytes | Iterable[bytes]) -> BlobRef:
        """Keep the bytes, durable when this returns. A damaged file of the same name is healed."""
        digest, size = hashlib.sha256(), 0
        try:
            with draft(self.folder) as writing:
                for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
                    writing.file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                ref = BlobRef(digest.hexdigest(), size)
                path = self.path(ref)
                path.parent.mkdir(exist_ok=True)
                writing.publish(path)
        except OSError as error:
            raise StoreError(
                f"blob could not be written to {self.folder}: {error}. "
                "Check the disk's free space and the folder's permissions, then put it again."
            ) from error
        return ref

    def path(self, ref: BlobRef) -> Path:
        """Where a blob lies. StoreError when the reference is not a SHA-256 digest."""
        return self.folder / blob_name(ref)

    def read(self, ref: BlobRef) -> Generator[bytes]:
        """The bytes in chunks. The last chunk is held back until size and hash of the whole are known to be right."""
        return verified(self._chunks(ref), ref, str(self.path(ref)))

    def all(self) -> Generator[BlobRef]:
        """Every blob, by name."""
        for path in sorted(self.folder.glob("*/*")):
            if is_digest(path.name):
                yield BlobRef(path.name, path.stat().st_size)

    def remove(self, ref: BlobRef) -> None:
        """Take a blob away, if it is there."""
        self.path(ref).unlink(missing_ok=True)

    def clear_drafts(self) -> None:
        """Take away what processes killed while they were writing left behind; young drafts may still be written."""
        for path in self.folder.glob(".draft-*"):
            if path.stat().st_mtime < time.time() - DRAFT_SECONDS:
                path.unlink(missing_ok=True)

    def occupied(self) -> int:
        """Bytes of all files in the folder."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def _chunks(self, ref: BlobRef) -> Generator[bytes]:
        offset = 0
        while chunk := self._chunk(ref, offset):
            yield chunk
            offset += len(chunk)

    def _chunk(self, ref: BlobRef, offset: int) -> bytes:
        # Opened anew for each chunk: a reader that stops half-way leaves no open file behind.
        path = self.path(ref)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(CHUNK_BYTES)
        except FileNotFoundError as error:
            raise missing(ref, str(self.folder)) from error
        except OSError as error:
            raise StoreError(f"blob {path} could not be read: {error.strerror or error}.") from error


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 digest as we write it."""
    return bool(_DIGEST.fullmatch(text))


def blob_name(ref: BlobRef) -> str:
    """`ab/ab12…`, the same in every store. StoreError when the reference is not a SHA-256 digest."""
    if not is_digest(ref.sha256):
        raise StoreError(f"{ref.sha256!r} is no blob reference: expected 64 lower-case hex digits (SHA-256).")
    return f"{ref.sha256[:2]}/{ref.sha256}"


def verified(chunks: Iterable[bytes], ref: BlobRef, place: str) -> Generator[bytes]:
    """The chunks, the last one held back until size and hash of the whole are known to be right; else StoreError."""
    digest, size, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        if held:
            yield held
        digest.update(chunk)
        size += len(chunk)
        held = chunk
    if (digest.hexdigest(), size) != (ref.sha256, ref.size):
        raise StoreError(
            f"blob {place} is damaged: {ref.size} bytes with that hash were expected, "
            f"{size} bytes with hash {digest.hexdigest()[:12]}… were found. Put the original content again."
        )
    if held:
        yield held


def missing(ref: BlobRef, place: str) -> StoreError:
    """The error of whoever asks for a blob that is not there."""
    return StoreError(
        f"there is no blob {ref.sha256[:12]}… in {place}. Were the store's records copied without its blobs?"
    )
